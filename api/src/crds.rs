//! The kinds as CustomResourceDefinitions, and the files of `deploy/crds` that hold them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use serde_yaml_ng::Value;

use crate::{ExternalPeer, Mesh, NodeTunnel};

/// By which all that belongs to an installation is found.
const LABEL: (&str, &str) = ("app.kubernetes.io/part-of", "hauberk");

const HEAD: &str = "\
# Generated from the types of api/src; do not edit. To write it anew:
# cargo run -p hauberk-api --example crds -- deploy/crds
";

/// The definitions of all kinds.
pub fn crds() -> [CustomResourceDefinition; 3] {
    [Mesh::crd(), NodeTunnel::crd(), ExternalPeer::crd()].map(|mut crd| {
        let (name, value) = LABEL;
        crd.metadata.labels = Some([(name.to_owned(), value.to_owned())].into());
        let schemas = crd
            .spec
            .versions
            .iter_mut()
            .flat_map(|version| &mut version.schema);
        for schema in schemas.flat_map(|schema| &mut schema.open_api_v3_schema) {
            join_lines(schema);
            let status = schema
                .properties
                .as_mut()
                .and_then(|fields| fields.get_mut("status"));
            // The derive makes it of the `Option`; an absent status is all that is needed.
            status.expect("every kind has a status").nullable = None;
        }
        crd
    })
}

/// Name and text of a manifest for each kind, as `deploy/crds` has them.
pub fn crd_manifests() -> Vec<(String, String)> {
    let manifest = |crd: &CustomResourceDefinition| {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        let value = serde_yaml_ng::to_value(crd).expect("a definition is a map with text keys");
        let yaml = serde_yaml_ng::to_string(&with_whole_numbers(value)).expect("it was a value");
        (name, format!("{HEAD}{}", with_quoted_switches(&yaml)))
    };
    crds().iter().map(manifest).collect()
}

/// `kubectl explain` breaks lines by itself, and keeps those of the source.
fn join_lines(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        join_lines(item);
    }
    schema
        .properties
        .iter_mut()
        .flat_map(|fields| fields.values_mut())
        .for_each(join_lines);
}

/// `minimum: 1` instead of `minimum: 1.0`: Kubernetes' type for bounds is a float.
fn with_whole_numbers(value: Value) -> Value {
    /// Up to here floats hold every whole number.
    const EXACT: f64 = (1_i64 << 53) as f64;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Sequence(items) => Value::Sequence(items.into_iter().map(with_whole_numbers).collect()),
        Value::Mapping(entries) => Value::Mapping(
            entries
                .into_iter()
                .map(|(key, value)| (key, with_whole_numbers(value)))
                .collect(),
        ),
        other => other,
    }
}

/// `'Off'` instead of `Off`: the writer keeps to YAML 1.2, where that is text, and kubectl reads YAML 1.1, where it is
/// false.
fn with_quoted_switches(yaml: &str) -> String {
    const SWITCHES: [&str; 6] = ["on", "off", "yes", "no", "y", "n"];
    let mut text = String::with_capacity(yaml.len());
    for line in yaml.lines() {
        let value = line.rsplit(' ').next().unwrap_or_default();
        let before = &line[..line.len() - value.len()];
        let is_value = before.ends_with(": ") || before.trim_start() == "- ";
        if is_value && SWITCHES.contains(&value.to_ascii_lowercase().as_str()) {
            text.extend([before, "'", value, "'", "\n"]);
        } else {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use serde_json::Value;

    use super::{crd_manifests, crds, with_quoted_switches};

    #[test]
    fn deploy_has_the_definitions_as_the_types_make_them() {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds"));
        let anew = "run: cargo run -p hauberk-api --example crds -- deploy/crds";
        let wanted = crd_manifests();
        for (name, text) in &wanted {
            let found = fs::read_to_string(dir.join(name)).unwrap_or_default();
            assert!(found == *text, "deploy/crds/{name} is stale; {anew}");
        }
        let found: BTreeSet<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let wanted = wanted.into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            found, wanted,
            "a file of deploy/crds belongs to no kind; remove it"
        );
    }

    #[test]
    fn no_text_is_a_boolean_to_older_yaml() {
        let yaml = "a: Off\nb:\n- no\n- Enabling\nc: turned off\nd: 'True'\n";
        assert_eq!(
            with_quoted_switches(yaml),
            "a: 'Off'\nb:\n- 'no'\n- Enabling\nc: turned off\nd: 'True'\n"
        );
    }

    #[test]
    fn every_field_is_described_bounded_and_of_a_format_that_the_api_server_knows() {
        for crd in crds() {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            let schema = &schema["openAPIV3Schema"];
            for part in ["spec", "status"] {
                check(
                    &format!("{}.{part}", crd.spec.names.kind),
                    &schema["properties"][part],
                );
            }
        }
    }

    /// `items` stands for the field that it belongs to and needs no description of its own.
    fn check(path: &str, schema: &Value) {
        let is_bounded = |keys: &[&str]| keys.iter().all(|key| schema.get(key).is_some());
        assert!(
            path.ends_with("[]") || schema["description"].is_string(),
            "{path} is not described"
        );
        assert_eq!(
            schema.get("nullable"),
            None,
            "{path} may be null beside being absent"
        );
        match schema["type"].as_str() {
            Some("object") => {
                for (name, field) in schema["properties"].as_object().unwrap() {
                    check(&format!("{path}.{name}"), field);
                }
            }
            Some("array") => {
                assert!(
                    is_bounded(&["maxItems", "x-kubernetes-list-type"]),
                    "{path} has no bound, or no way to be merged"
                );
                check(&format!("{path}[]"), &schema["items"]);
            }
            Some("string") => {
                let bounded = is_bounded(&["maxLength"]) || is_bounded(&["enum"]) || is_bounded(&["format"]);
                assert!(bounded, "{path} has no bound");
            }
            Some("integer") => {
                assert!(is_bounded(&["minimum"]), "{path} may be negative");
                assert!(
                    matches!(schema["format"].as_str(), Some("int32" | "int64")),
                    "{path}"
                );
            }
            Some("boolean") => {}
            other => panic!("{path} is of type {other:?}"),
        }
    }
}
