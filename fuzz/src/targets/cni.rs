//! What `hauberk-cni` reads, and the CNI configurations that keyd edits.

use keyd::cni::{
    call::{Action, Call, Environment, version_of},
    conflist,
};

use super::Target;

const ENTRY: &str = r#"{"type":"hauberk-cni","socket":"/run/hauberk/cni.sock","timeoutSeconds":20}"#;

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "\"plugins\":[",
    "\"type\":\"hauberk-cni\"",
    "{\"type\":\"ptp\"}",
    "\"name\":\"n\"",
    "\"cniVersion\":\"1.0.0\"",
    "\"prevResult\":{",
    "\"ips\":[",
    "\"interfaces\":[",
    "\"address\":\"10.77.1.9/24\"",
    "\"interface\":0",
    "\"sandbox\":\"x\"",
    "\"timeoutSeconds\":1",
];

pub(crate) const CALL: Target = Target {
    name: "cni-call",
    about: "what a container runtime tells hauberk-cni",
    seeds: || {
        let config = br#"{"cniVersion":"1.0.0","name":"n","type":"hauberk-cni","prevResult":{"interfaces":[{"name":"v1"},
            {"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"address":"10.77.1.9/24","interface":1}]}}"#;
        vec![config.to_vec()]
    },
    words: WORDS,
    run: |input| {
        let mut seen = 0;
        for command in ["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"] {
            let environment = Environment {
                command: command.to_owned(),
                container: "c".to_owned(),
                netns: "/run/netns/x".to_owned(),
                ifname: "eth0".to_owned(),
                args: String::new(),
            };
            seen = seen << 4
                | match Call::parse(&environment, input) {
                    Ok(Call {
                        action: Action::Ask(asking),
                        ..
                    }) => 1 + u64::from(asking.previous.is_some()),
                    Ok(_) => 3,
                    Err(error) => {
                        let result = serde_json::to_value(error.result(&version_of(input))).expect("JSON");
                        4 + result["code"].as_u64().expect("an error has a code") % 12
                    }
                };
        }
        seen
    },
};

pub(crate) const CONFLIST: Target = Target {
    name: "cni-conflist",
    about: "the network configuration that keyd chains hauberk-cni into",
    seeds: || {
        let list = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;
        let chained = conflist::chained(list, ENTRY).expect("valid").expect("changed");
        vec![list.as_bytes().to_vec(), chained.into_bytes()]
    },
    words: WORDS,
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return 0;
        };
        match conflist::chained(text, ENTRY) {
            Ok(None) => 1,
            Ok(Some(chained)) => {
                assert_eq!(
                    conflist::chained(&chained, ENTRY).expect("still a list"),
                    None,
                    "once is enough"
                );
                let back = conflist::unchained(&chained)
                    .expect("still a list")
                    .expect("it is in it");
                assert_eq!(
                    conflist::unchained(&back).expect("still a list"),
                    None,
                    "nothing is left of it"
                );
                if conflist::unchained(text).is_ok_and(|found| found.is_none()) {
                    assert_eq!(back, text, "what others wrote stays to the byte");
                }
                2
            }
            Err(error) => 3 + u64::from(error.to_string().contains("cniVersion")),
        }
    },
};
