//! deploy/hauberk.yaml, which is part of this program, for a certain namespace, image and API server.
//!
//! What differs is replaced in the text and not in the objects, so that what `--dry-run` prints keeps its comments, and
//! texts that older YAML takes for booleans keep their quotes.

use std::fmt;
use std::str::FromStr;

use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::Value;

use super::Address;

/// Rendered with [`Namespace::DEFAULT`].
const RENDERED: &str = include_str!("../../../deploy/hauberk.yaml");
const SEPARATOR: &str = "\n---\n";
/// Where pods' metadata begin.
const POD: &str = "\n  template:\n    metadata:\n";

/// The name of a namespace, as DNS labels are (RFC 1123).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// Where Hauberk is unless told otherwise.
    pub const DEFAULT: &str = "hauberk-system";

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_valid = (1..=63).contains(&text.len())
            && text.chars().all(|c| is_plain(c) || c == '-')
            && text.starts_with(is_plain)
            && text.ends_with(is_plain);
        match is_valid {
            true => Ok(Self(text.to_owned())),
            false => Err("a namespace's name is of a-z, 0-9 and -, at most 63 of them"),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that is installed.
pub struct Bundle(String);

impl Bundle {
    /// With the image of this version, unless another is named.
    pub fn new(namespace: &Namespace, image: Option<&str>, api_server: &Address) -> Self {
        let mut text = RENDERED.replace(Namespace::DEFAULT, namespace.as_str());
        if let Some(image) = image {
            text = text.replace(rendered_image(), &quoted(image));
        }
        // Pods read it when they start, so another one has to start them anew.
        let started_for = format!("{POD}      annotations: {{hauberk.dev/api-server: \"{api_server}\"}}\n");
        let text = text.replace(POD, &started_for);
        let address = format!(
            "# Where keyd and the controller reach the API server.\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  \
             name: hauberk-api-server\n  namespace: {namespace}\n  labels: {{app.kubernetes.io/part-of: hauberk}}\n\
             data:\n  host: {}\n  port: \"{}\"",
            quoted(api_server.host()),
            api_server.port()
        );
        let mut documents: Vec<_> = text.split(SEPARATOR).collect();
        let namespace = documents
            .iter()
            .position(|document| document.contains("\nkind: Namespace\n"));
        documents.insert(namespace.expect("the namespace is rendered") + 1, &address);
        Self(documents.join(SEPARATOR))
    }

    /// What is in a cluster under this namespace, wherever its API server is.
    pub fn of_namespace(namespace: &Namespace) -> Self {
        let anywhere = "localhost".parse().expect("it is a host");
        Self::new(namespace, None, &anywhere)
    }

    /// As YAML.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// In the order in which they are applied.
    pub fn objects(&self) -> Vec<Object> {
        serde_yaml_ng::Deserializer::from_str(&self.0)
            .map(|document| Value::deserialize(document).expect("what is rendered is YAML"))
            .filter(|value| !value.is_null())
            .map(Object::new)
            .collect()
    }
}

/// One object of the bundle.
#[derive(Clone, Debug)]
pub struct Object {
    /// As it is applied.
    pub value: Value,
    /// What it is.
    pub resource: ApiResource,
}

impl Object {
    fn new(value: Value) -> Self {
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion")
            .split_once('/')
            .unwrap_or(("", text("apiVersion")));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
        Self { value, resource }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.value["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Objects of its kind, where it is.
    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        match self.value["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.kind, self.name())
    }
}

/// The image's name in the rendered text.
fn rendered_image() -> &'static str {
    let line = RENDERED
        .lines()
        .find_map(|line| line.trim().strip_prefix("image: "));
    line.expect("an image is rendered")
}

/// JSON's strings are YAML's as well.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(namespace: &str, image: Option<&str>) -> Bundle {
        let address = "[fd00::1]:7443".parse().expect("an address");
        Bundle::new(&namespace.parse().expect("a name"), image, &address)
    }

    #[test]
    fn namespace_image_and_address_are_where_they_belong_and_nowhere_else() {
        let bundle = bundle("mesh", Some("mirror.example:5000/hauberk@sha256:00"));
        let objects = bundle.objects();
        assert!(!bundle.text().contains(Namespace::DEFAULT) && !bundle.text().contains(rendered_image()));
        let of = |kind: &str| {
            let found = objects.iter().find(|object| object.resource.kind == kind);
            &found.unwrap_or_else(|| panic!("no {kind}")).value
        };
        assert_eq!(of("Namespace")["metadata"]["name"], "mesh");
        assert_eq!(
            of("ConfigMap")["data"],
            serde_json::json!({"host": "fd00::1", "port": "7443"})
        );
        for kind in ["DaemonSet", "Deployment"] {
            let pod = &of(kind)["spec"]["template"];
            assert_eq!(
                pod["metadata"]["annotations"],
                serde_json::json!({"hauberk.dev/api-server": "[fd00::1]:7443"})
            );
            let container = &pod["spec"]["containers"][0];
            assert_eq!(container["image"], "mirror.example:5000/hauberk@sha256:00");
        }
        let policy = of("ValidatingAdmissionPolicy").to_string();
        assert!(policy.contains("system:serviceaccounts:mesh'"), "{policy}");
    }

    #[test]
    fn what_limits_permissions_comes_before_what_grants_them_and_the_mesh_comes_last() {
        let objects = bundle("mesh", None).objects();
        let first = |kind: &str| {
            objects
                .iter()
                .position(|object| object.resource.kind == kind)
                .expect(kind)
        };
        let last = |kind: &str| {
            objects
                .iter()
                .rposition(|object| object.resource.kind == kind)
                .expect(kind)
        };
        assert_eq!(first("Namespace"), 0);
        assert!(last("CustomResourceDefinition") < first("ValidatingAdmissionPolicy"));
        assert!(last("ValidatingAdmissionPolicyBinding") < first("ClusterRoleBinding"));
        assert!(last("RoleBinding") < first("DaemonSet"));
        assert_eq!(last("Mesh"), objects.len() - 1);
        assert_eq!(
            objects[objects.len() - 1].value["spec"],
            serde_json::json!({}),
            "it changes no setting"
        );
    }

    #[test]
    fn an_image_is_no_way_to_write_other_fields() {
        let bundle = bundle("mesh", Some("a\"\n        privileged: true"));
        let text = serde_json::to_string(&bundle.objects().iter().map(|o| &o.value).collect::<Vec<_>>());
        assert!(!text.expect("JSON").contains("\"privileged\":true"));
    }
}
