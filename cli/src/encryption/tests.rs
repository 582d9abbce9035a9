//! What an edit keeps and what it refuses.

use std::os::unix::fs::PermissionsExt;

use super::*;

const MESH: &str = "apiVersion: hauberk.dev/v1alpha1
kind: Mesh
metadata:
  name: default   # the only one
spec:
  policy: {enforcer: Hauberk}
  encryption:
    # flipped by the operator
    enabled: false  # for now
    lanes: 2
";

fn enabled_of(text: &str) -> bool {
    let object: Value = serde_yaml_ng::from_str(text).unwrap();
    object["spec"]["encryption"]["enabled"].as_bool().unwrap()
}

#[test]
fn only_the_flag_changes_and_comments_stay() {
    let edited = edit(MESH, true).unwrap().unwrap();
    assert_eq!(edited, MESH.replace("enabled: false", "enabled: true"));
    assert_eq!(edit(&edited, false).unwrap().unwrap(), MESH);
}

#[test]
fn a_flag_that_is_set_already_changes_nothing() {
    assert_eq!(edit(MESH, false).unwrap(), None);
}

#[test]
fn documents_beside_the_mesh_stay_byte_for_byte() {
    let before = "# nodes\nkind: Node\nmetadata: {name: a}\n--- # the mesh\n";
    let after = "---\nkind: Mesh\nmetadata: {name: other}\nspec: {encryption: {enabled: false}}\n";
    let edited = edit(&format!("{before}{MESH}{after}"), true).unwrap().unwrap();
    assert!(edited.starts_with(before));
    assert!(edited.ends_with(after));
    assert!(edited.contains("enabled: true  # for now"));
}

#[test]
fn missing_fields_are_added_and_others_kept() {
    for mesh in [
        "kind: Mesh\nmetadata: {name: default, labels: {a: b}}\n",
        "kind: Mesh\nmetadata: {name: default, labels: {a: b}}\nspec:\n",
        "kind: Mesh\nmetadata: {name: default, labels: {a: b}}\nspec: {encryption: {enabled: false}}\n",
        "kind: Mesh\nmetadata: {name: default, labels: {a: b}}\nspec:\n  encryption:\n    enabled:\n",
        "{\"kind\": \"Mesh\", \"metadata\": {\"name\": \"default\", \"labels\": {\"a\": \"b\"}}}",
    ] {
        let edited = edit(mesh, true).unwrap().unwrap();
        assert!(enabled_of(&edited), "{edited}");
        let object: Value = serde_yaml_ng::from_str(&edited).unwrap();
        assert_eq!(object["metadata"]["labels"]["a"].as_str(), Some("b"));
    }
}

#[test]
fn another_enabled_before_or_outside_encryption_is_left_alone() {
    let mesh = "enabled: false\nkind: Mesh\nmetadata:\n  name: default\nspec:\n  services:\n    enabled: false\n  \
                encryption:\n    postQuantum:\n      enabled: false\n    enabled: false\n";
    let object: Value = serde_yaml_ng::from_str(&edit(mesh, true).unwrap().unwrap()).unwrap();
    assert_eq!(object["spec"]["encryption"]["enabled"].as_bool(), Some(true));
    assert_eq!(
        object["spec"]["encryption"]["postQuantum"]["enabled"].as_bool(),
        Some(false)
    );
    assert_eq!(object["spec"]["services"]["enabled"].as_bool(), Some(false));
    assert_eq!(object["enabled"].as_bool(), Some(false));
}

#[test]
fn a_spec_that_is_not_a_mapping_is_refused() {
    let mesh = "kind: Mesh\nmetadata: {name: default}\nspec: 7\n";
    assert!(matches!(edit(mesh, true), Err(EditError::NotAMapping("spec"))));
}

#[test]
fn the_file_keeps_its_mode_and_nothing_is_left_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mesh.yaml");
    fs::write(&path, MESH).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(
        dir.path().join(STATUS_FILE),
        "kind: Mesh\nmetadata: {name: default}\nstatus: {}\n",
    )
    .unwrap();

    assert_eq!(
        set_enabled(dir.path(), true).unwrap(),
        Outcome::Changed(path.display().to_string())
    );
    assert_eq!(
        set_enabled(dir.path(), true).unwrap(),
        Outcome::Unchanged(path.display().to_string())
    );
    assert!(enabled_of(&fs::read_to_string(&path).unwrap()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn no_mesh_two_meshes_and_a_malformed_mesh_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    assert!(matches!(
        set_enabled(dir.path(), true),
        Err(EncryptionError::NoMesh(_))
    ));
    write("m.yaml", "kind: Mesh\nmetadata: {name: [\n");
    assert!(matches!(
        set_enabled(dir.path(), true),
        Err(EncryptionError::Malformed { .. })
    ));
    write("m.yaml", MESH);
    write("n.yaml", MESH);
    assert!(matches!(
        set_enabled(dir.path(), true),
        Err(EncryptionError::TwoMeshes(..))
    ));
}
