//! What `deploy/crds` and `deploy/manifests` do in a real API server: the definitions are taken as they are, nonsense
//! is refused with a message that helps, and nobody can write what is not theirs.
//!
//! One control plane serves all tests; each has names of its own, or only tries (`dryRun`).

mod admission;
mod meshes;
mod peers;
mod roles;
mod tunnels;

use std::{
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::kubernetes::{ControlPlane, ControlPlaneSpec, Identity, PlacedPod};
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective},
    core::{ApiResource, Status},
};
use serde_json::Value;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

const KEYD: &str = "system:serviceaccount:hauberk-system:hauberk-keyd";
/// A WireGuard key.
const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
/// As keyd names itself, since it takes room in every object.
const MANAGER: &str = "hauberk-keyd";

/// With Hauberk's manifests installed by kubectl, as an administrator would.
fn control_plane() -> MutexGuard<'static, ControlPlane> {
    static SHARED: LazyLock<Mutex<ControlPlane>> = LazyLock::new(|| {
        let control_plane = ControlPlane::start(ControlPlaneSpec {
            // It checks admission policies, fills aggregated roles and collects garbage.
            controller_manager: true,
            scheduler: false,
        });
        let control_plane = control_plane.unwrap_or_else(|e| panic!("{e}\n{e:?}"));
        install(&control_plane);
        Mutex::new(control_plane)
    });
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn install(control_plane: &ControlPlane) {
    for folder in ["crds", "manifests"] {
        let (_, warnings) = kubectl(control_plane, &["apply", "-f", &format!("{DEPLOY}/{folder}")]);
        assert_eq!(warnings, "", "kubectl apply -f deploy/{folder}");
    }
    let established = [
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd",
        "--all",
    ];
    kubectl(control_plane, &established);
    admission::wait_for_policies(control_plane);
}

/// What kubectl prints, and what it prints to stderr.
fn kubectl(control_plane: &ControlPlane, arguments: &[&str]) -> (String, String) {
    let mut command: Command = control_plane.kubectl().unwrap();
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let [printed, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "kubectl {arguments:?}: {said}");
    (printed, said)
}

/// keyd of a node, which is made if it is not there: its ServiceAccount with a token bound to a pod of that node.
fn keyd(control_plane: &ControlPlane, node: &str) -> Identity {
    of_pod(control_plane, "hauberk-keyd", node)
}

/// The controller, in a pod of that node.
fn controller(control_plane: &ControlPlane, node: &str) -> Identity {
    of_pod(control_plane, "hauberk-controller", node)
}

fn of_pod(control_plane: &ControlPlane, service_account: &str, node: &str) -> Identity {
    let name = format!("{service_account}-{node}");
    let pod = PlacedPod {
        namespace: "hauberk-system",
        name: &name,
        service_account,
        node,
    };
    control_plane.place(pod).unwrap();
    control_plane.pod(pod.namespace, pod.name).unwrap()
}

/// The object as the API server has it now, or why it refused.
type Answer = Result<Value, Box<Status>>;

/// By POST, and nothing is stored (`dryRun`).
fn try_to_create<K: Resource<DynamicType = ()>>(who: &Identity, object: &Value) -> Answer {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    ask::<K>(who, async |api| api.create(&parameters, &read(object)).await)
}

/// By server-side apply; a field that the schema doesn't know is refused.
fn apply<K: Resource<DynamicType = ()>>(who: &Identity, object: &Value) -> Answer {
    let parameters = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply(MANAGER).force()
    };
    ask::<K>(who, async |api| {
        api.patch(name(object), &parameters, &Patch::Apply(object)).await
    })
}

/// The status by server-side apply.
fn apply_status<K: Resource<DynamicType = ()>>(who: &Identity, object: &Value) -> Answer {
    let parameters = PatchParams::apply(MANAGER).force();
    ask::<K>(who, async |api| {
        api.patch_status(name(object), &parameters, &Patch::Apply(object))
            .await
    })
}

fn merge<K: Resource<DynamicType = ()>>(who: &Identity, name: &str, patch: &Value) -> Answer {
    ask::<K>(who, async |api| {
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
    })
}

/// None once it is gone.
fn stored<K: Resource<DynamicType = ()>>(who: &Identity, name: &str) -> Option<Value> {
    match ask::<K>(who, async |api| api.get(name).await) {
        Ok(object) => Some(object),
        Err(status) if status.code == 404 => None,
        Err(status) => panic!("{status:?}"),
    }
}

fn delete<K: Resource<DynamicType = ()>>(who: &Identity, name: &str, parameters: &DeleteParams) -> Answer {
    ask::<K>(who, async |api| {
        let before = api.get(name).await;
        api.delete(name, parameters).await?;
        before
    })
}

fn ask<K: Resource<DynamicType = ()>>(
    who: &Identity,
    work: impl AsyncFnOnce(Api<DynamicObject>) -> kube::Result<DynamicObject>,
) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let kind = ApiResource::erase::<K>(&());
        work(Api::all_with(who.client().unwrap(), &kind)).await
    });
    match answer {
        Ok(object) => Ok(serde_json::to_value(object).unwrap()),
        Err(kube::Error::Api(status)) => Err(status),
        Err(error) => panic!("{error:?}"),
    }
}

fn read<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Refused with this code, and these words among others.
fn refused(answer: &Answer, code: u16, words: &str) {
    match answer {
        Ok(object) => panic!("not refused ({words}): {object}"),
        Err(status) => assert!(
            status.code == code && status.message.contains(words),
            "not {words:?}: {status:?}"
        ),
    }
}

/// The object passes with each of the changes: a field's JSON pointer, and its value.
fn is_taken<K: Resource<DynamicType = ()>>(object: &Value, changes: &[(&str, Value)]) {
    let control_plane = control_plane();
    for (pointer, value) in changes {
        let changed = with(object, pointer, value.clone());
        let answer = try_to_create::<K>(control_plane.admin(), &changed);
        assert!(answer.is_ok(), "{pointer} = {value}: {answer:?}");
    }
}

/// With each of the changes it doesn't, and the refusal has these words.
fn is_refused<K: Resource<DynamicType = ()>>(object: &Value, changes: &[(&str, Value, &str)]) {
    let control_plane = control_plane();
    for (pointer, value, words) in changes {
        let changed = with(object, pointer, value.clone());
        refused(&try_to_create::<K>(control_plane.admin(), &changed), 422, words);
    }
}

/// Sets what is at a JSON pointer; the last field may be a new one.
fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        fields => fields[field] = value,
    }
    object
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "not within 30 s: {what}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}
