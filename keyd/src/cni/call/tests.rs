//! Calls as runtimes make them, and as they should not.

use proptest::prelude::*;

use super::*;

const BRIDGE: &str = r#"{"cniVersion":"1.0.0","name":"pods","type":"hauberk-cni","timeoutSeconds":7,
 "socket":"/run/x/cni.sock","unknown":{"kept":"by others"},
 "prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"cni0","mac":"aa:aa:aa:aa:aa:aa"},{"name":"veth1"},
 {"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"interface":2,"address":"10.77.1.9/24","gateway":"10.77.1.1"},
 {"interface":2,"address":"fd77:1::9/64"},{"interface":0,"address":"10.99.0.1/24"}],"dns":{}}}"#;

fn environment(command: &str) -> Environment {
    Environment {
        command: command.into(),
        container: "0a1b".into(),
        netns: "/run/netns/x".into(),
        ifname: "eth0".into(),
        args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=shop-0;K8S_POD_UID=".into(),
    }
}

fn asking(call: Call<'_>) -> Asking<'_> {
    match call.action {
        Action::Ask(asking) => *asking,
        other => panic!("keyd is not asked: {other:?}"),
    }
}

fn code(environment: &Environment, stdin: &str) -> u32 {
    let error = Call::parse(environment, stdin.as_bytes()).expect_err("refused");
    let result = serde_json::to_value(error.result("1.0.0")).expect("JSON");
    assert!(result["msg"].is_string() && result["details"].is_string() && result["cniVersion"] == "1.0.0");
    u32::try_from(result["code"].as_u64().expect("a number")).expect("small")
}

#[test]
fn an_add_says_pod_addresses_and_interfaces_and_keeps_the_previous_result_to_the_byte() {
    let call = Call::parse(&environment("ADD"), BRIDGE.as_bytes()).expect("valid");
    let Asking {
        request,
        netns,
        previous,
        socket,
        patience,
    } = asking(call);
    let Request::Add(attachment) = request else {
        panic!("not an ADD: {request:?}");
    };
    let addresses: Vec<_> = attachment.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.77.1.9", "fd77:1::9"]);
    assert_eq!(attachment.host_side.names, ["cni0", "veth1"]);
    let pod = attachment.pod.expect("named");
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str(), pod.uid),
        ("web", "shop-0", None)
    );
    assert_eq!(netns, Some("/run/netns/x".into()));
    assert_eq!(
        (socket, patience),
        ("/run/x/cni.sock".into(), Duration::from_secs(7))
    );
    let previous = previous.expect("kept").get();
    assert!(
        BRIDGE.contains(previous) && previous.starts_with("{\"cniVersion\"") && previous.ends_with("{}}")
    );
}

#[test]
fn what_the_runtime_or_the_configuration_gets_wrong_has_the_codes_of_the_specification() {
    assert_eq!(code(&environment("SING"), BRIDGE), 4);
    assert_eq!(code(&environment("ADD"), "{"), 6);
    assert_eq!(code(&environment("ADD"), r#"{"cniVersion":"0.2.0"}"#), 1);
    assert_eq!(code(&environment("ADD"), r#"{"name":"x"}"#), 1);
    assert_eq!(code(&environment("ADD"), r#"{"cniVersion":"1.0.0"}"#), 7);
    assert_eq!(
        code(
            &environment("CHECK"),
            r#"{"cniVersion":"0.4.0","prevResult":{"ips":[]}}"#
        ),
        7
    );
    let mut nowhere = environment("ADD");
    nowhere.netns.clear();
    assert_eq!(code(&nowhere, BRIDGE), 4);
    let mut odd = environment("DEL");
    odd.container = "../../etc".into();
    assert_eq!(code(&odd, BRIDGE), 4);
}

#[test]
fn a_del_needs_neither_namespace_nor_previous_result() {
    let mut environment = environment("DEL");
    environment.netns.clear();
    let call = Call::parse(&environment, br#"{"cniVersion":"0.3.1","name":"n"}"#).expect("valid");
    assert!(matches!(asking(call).request, Request::Del(_)));
}

#[test]
fn a_gc_names_what_is_left() {
    let stdin = br#"{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}"#;
    let call = Call::parse(&environment("GC"), stdin).expect("valid");
    let Request::Gc { network, valid } = asking(call).request else {
        panic!("not a GC");
    };
    assert_eq!((network.as_str(), valid.len()), ("n", 1));
}

proptest! {
    #[test]
    fn no_input_makes_it_panic(stdin in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..BRIDGE.len(),
                               byte in any::<u8>()) {
        let mut changed = BRIDGE.as_bytes().to_vec();
        changed[cut] = byte;
        for command in ["ADD", "DEL", "GC", "STATUS", "VERSION"] {
            for input in [&stdin, &changed] {
                if let Err(error) = Call::parse(&environment(command), input) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }
}
