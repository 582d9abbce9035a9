//! The control plane for tests, with the real programs.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hauberk_netlab::{
    Lab, LabSpec, Wiring,
    kubernetes::{ControlPlane, ControlPlaneSpec, KubernetesError, PlacedPod, Vantage},
};
use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReview, TokenReview},
    core::v1::{ConfigMap, Pod, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const DAEMON: PlacedPod<'_> = PlacedPod {
    namespace: "hauberk-system",
    name: "daemon-a",
    service_account: "daemon",
    node: "a",
};

/// One for all tests but those that end it; the process's guardian removes it.
fn control_plane() -> MutexGuard<'static, ControlPlane> {
    static SHARED: LazyLock<Result<Mutex<ControlPlane>, KubernetesError>> =
        LazyLock::new(|| start(ControlPlaneSpec::default()).map(Mutex::new));
    // Each test says why there is none.
    let shared = SHARED.as_ref().unwrap_or_else(|e| panic!("{e}\n{e:?}"));
    // A failed test leaves it as it was, but for an API server that may be down.
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.start_api_server().unwrap();
    shared
}

fn start(spec: ControlPlaneSpec) -> Result<ControlPlane, KubernetesError> {
    let started = Instant::now();
    let control_plane = ControlPlane::start(spec)?;
    eprintln!("{spec:?} started in {:?}", started.elapsed());
    Ok(control_plane)
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "not within 30 s: {what}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// What kubectl prints when it runs as `command`.
fn printed(command: &mut Command, arguments: &[&str]) -> String {
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into()
}

/// The events of the audit log; the last line before a kill may be half written.
fn audited(control_plane: &ControlPlane) -> Vec<Value> {
    let log = fs::read_to_string(control_plane.audit_log()).unwrap();
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// kubectl as the administrator on the lab's first node.
fn kubectl_on_first_node(control_plane: &ControlPlane, lab: &Lab) -> Command {
    let kubectl = control_plane.kubectl().unwrap();
    let mut command = lab.nodes()[0].command(kubectl.get_program());
    command
        .envs(
            kubectl
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("KUBECONFIG", control_plane.admin().kubeconfig(Vantage::Lab));
    command
}

#[test]
fn the_api_server_answers_which_kubernetes_it_is() {
    let control_plane = control_plane();
    let version = control_plane
        .run(async |client| client.apiserver_version().await)
        .unwrap()
        .unwrap();
    assert_eq!((&*version.major, &*version.minor), ("1", "35"));
    assert!(version.git_version.starts_with("v1.35."), "{version:?}");
    let said = printed(&mut control_plane.kubectl().unwrap(), &["version", "-o", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["serverVersion"]["gitVersion"], version.git_version);
    assert_eq!(
        said["clientVersion"]["gitVersion"].as_str().map(|v| &v[..6]),
        Some("v1.35.")
    );
}

#[test]
fn an_object_survives_a_killed_and_restarted_api_server() {
    let mut control_plane = control_plane();
    let config_map = || object::<ConfigMap>(json!({"metadata": {"name": "kept"}, "data": {"key": "value"}}));
    let made = control_plane
        .run(async |client| {
            Api::default_namespaced(client)
                .create(&PostParams::default(), &config_map())
                .await
        })
        .unwrap()
        .unwrap();

    control_plane.kill_api_server().unwrap();
    let refused = control_plane.run(async |client| client.apiserver_version().await);
    assert!(refused.unwrap().is_err());

    let took = control_plane.start_api_server().unwrap();
    eprintln!("the API server restarted in {took:?}");
    let kept = control_plane
        .run(async |client| {
            let config_maps = Api::<ConfigMap>::default_namespaced(client);
            let kept = config_maps.get("kept").await;
            config_maps
                .delete("kept", &DeleteParams::default())
                .await
                .unwrap();
            kept
        })
        .unwrap()
        .unwrap();
    assert_eq!(kept, made);
}

#[test]
fn a_stopped_api_server_ends_watches_that_are_in_the_audit_log_from_their_beginning() {
    let mut control_plane = control_plane();
    let mut kubectl = control_plane.kubectl().unwrap();
    kubectl.args(["get", "secrets", "--watch"]).stdin(Stdio::null());
    let mut watch = kubectl
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the watch is in the audit log", || {
        let of_secrets =
            |event: &Value| event["verb"] == "watch" && event["objectRef"]["resource"] == "secrets";
        let from_kubectl = |event: &Value| {
            event["userAgent"]
                .as_str()
                .is_some_and(|a| a.starts_with("kubectl"))
        };
        audited(&control_plane)
            .iter()
            .any(|event| of_secrets(event) && from_kubectl(event))
    });
    let stopping = Instant::now();
    control_plane.stop_api_server().unwrap();
    assert!(
        stopping.elapsed() < Duration::from_secs(10),
        "{:?}",
        stopping.elapsed()
    );
    eventually("kubectl has ended", || watch.try_wait().unwrap().is_some());
    control_plane.start_api_server().unwrap();
}

#[test]
fn a_client_goes_on_after_the_api_server_was_restarted() {
    let mut control_plane = control_plane();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = {
        let _inside = runtime.enter();
        control_plane.admin().client().unwrap()
    };
    runtime.block_on(client.apiserver_version()).unwrap();
    control_plane.kill_api_server().unwrap();
    control_plane.start_api_server().unwrap();
    eventually("the old client is answered again", || {
        runtime.block_on(client.apiserver_version()).is_ok()
    });
}

#[test]
fn a_token_that_is_bound_to_a_pod_carries_its_nodes_name() {
    let control_plane = control_plane();
    control_plane.place(DAEMON).unwrap();
    let token = control_plane.pod_token(DAEMON.namespace, DAEMON.name).unwrap();
    let review = json!({"metadata": {}, "spec": {"token": token}});
    let review: TokenReview = control_plane
        .run(async |client| {
            Api::all(client)
                .create(&PostParams::default(), &object(review))
                .await
        })
        .unwrap()
        .unwrap();
    let user = review.status.unwrap().user.unwrap();
    assert_eq!(
        user.username.as_deref(),
        Some("system:serviceaccount:hauberk-system:daemon")
    );
    assert_eq!(user.extra.unwrap()[NODE_NAME], ["a"]);

    // The same by the token's own eyes, with a client that carries it.
    let pod = control_plane.pod(DAEMON.namespace, DAEMON.name).unwrap();
    let review: SelfSubjectReview = pod
        .run(async |client| {
            Api::all(client)
                .create(&PostParams::default(), &object(json!({"metadata": {}})))
                .await
        })
        .unwrap()
        .unwrap();
    let user = review.status.unwrap().user_info.unwrap();
    assert_eq!(user.extra.unwrap()[NODE_NAME], ["a"]);
}

#[test]
fn what_a_pod_may_not_do_is_refused_and_in_the_audit_log() {
    let control_plane = control_plane();
    control_plane.place(DAEMON).unwrap();
    let pod = control_plane.pod(DAEMON.namespace, DAEMON.name).unwrap();
    let refused = pod
        .run(async |client| Api::<Pod>::namespaced(client, "audited").get("other").await)
        .unwrap();
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));

    let mut events = audited(&control_plane);
    events.retain(|event| event["objectRef"]["namespace"] == "audited");
    let [event] = &events[..] else {
        panic!("not one event, but {events:?}")
    };
    assert_eq!(
        event["user"]["username"],
        "system:serviceaccount:hauberk-system:daemon"
    );
    assert_eq!(
        (&event["verb"], &event["objectRef"]["resource"]),
        (&json!("get"), &json!("pods"))
    );
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        json!("forbid")
    );
}

#[test]
fn the_nodes_of_one_lab_after_the_other_reach_the_api_server() {
    let control_plane = control_plane();
    for name in ["k8s-one", "k8s-two"] {
        let lab = Lab::new(LabSpec::two_nodes(name, Wiring::Routed)).unwrap();
        control_plane.join(&lab).unwrap();
        let mut kubectl = kubectl_on_first_node(&control_plane, &lab);
        assert_eq!(printed(&mut kubectl, &["get", "--raw", "/readyz"]), "ok");
        let mut kubectl = kubectl_on_first_node(&control_plane, &lab);
        let by_v6 = ["--server=https://[fd77::250]:6443", "get", "--raw", "/readyz"];
        assert_eq!(printed(&mut kubectl, &by_v6), "ok");
        // A pod is answered, with its own address.
        let mut ping = lab.pod("b1").command("ping");
        printed(&mut ping, &["-c1", "-W2", "192.168.77.250"]);
        // The lab is left without the control plane's doing, as in a test that ends.
        drop(lab);
    }
}

#[test]
fn a_scheduler_and_a_controller_manager_work_and_nothing_is_left_of_any_of_them() {
    let control_plane = start(ControlPlaneSpec {
        controller_manager: true,
        scheduler: true,
    })
    .unwrap();
    // Without a kubelet nobody says that it has room.
    let node = json!({"metadata": {"name": "a"}, "status": {"allocatable": {"pods": "10"}}});
    let pod = json!({
        "metadata": {"name": "homeless"},
        "spec": {
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "i"}],
        },
    });
    let create = async |client: Client| {
        Api::all(client.clone())
            .create(
                &PostParams::default(),
                &object::<k8s_openapi::api::core::v1::Node>(node),
            )
            .await
            .unwrap();
        let accounts = Api::<ServiceAccount>::default_namespaced(client.clone());
        while accounts.get_opt("default").await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Api::default_namespaced(client)
            .create(&PostParams::default(), &object::<Pod>(pod))
            .await
            .unwrap();
    };
    control_plane.run(create).unwrap();
    eventually("the pod has a node", || {
        let pod = control_plane
            .run(async |client| Api::<Pod>::default_namespaced(client).get("homeless").await)
            .unwrap()
            .unwrap();
        pod.spec.unwrap().node_name.as_deref() == Some("a")
    });

    let directory = control_plane.audit_log().parent().unwrap().to_owned();
    let namespace = control_plane.netns().path().to_owned();
    let address = control_plane
        .admin()
        .config()
        .cluster_url
        .authority()
        .unwrap()
        .to_string();
    assert_eq!(programs_in(&directory).len(), 4);
    drop(control_plane);
    assert_eq!(programs_in(&directory), [""; 0]);
    assert!(!directory.exists() && !namespace.exists());
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// The command lines of all processes that name this directory.
fn programs_in(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&format!("{}/", directory.display())))
        .collect()
}
