//! What keyd reads: control messages, the key file, manifests.

use std::hash::{DefaultHasher, Hash, Hasher};

use keyd::{
    control_message::{ControlMessage, ControlMessageError, SIZE},
    keyfile::{KeyFile, KeyFormatError},
    manifest,
};

use super::Target;

pub(crate) const CONTROL_MESSAGE: Target = Target {
    name: "control-message",
    about: "what two nodes tell each other of their pair's phase",
    seeds: || {
        let mut message = [0; SIZE];
        message[..6].copy_from_slice(b"HBKC\x01\x02");
        message[15] = 1;
        message[23] = 1;
        vec![message.to_vec()]
    },
    words: &[],
    run: |input| match ControlMessage::decode(input) {
        Ok(message) => {
            assert_eq!(message.encode(), *input, "every byte has a meaning");
            u64::from(message.phase.number()) << 2
                | u64::from(message.wants_on) << 1
                | u64::from(message.asks)
        }
        Err(ControlMessageError::Size(_)) => 0x100,
        Err(ControlMessageError::Magic) => 0x101,
        Err(ControlMessageError::Version(_)) => 0x102,
        Err(ControlMessageError::Range(field)) => 0x103 + field.len() as u64,
    },
};

pub(crate) const KEY_FILE: Target = Target {
    name: "key-file",
    about: "the file that keeps a generation's private keys",
    seeds: || {
        let header = b"HBKEYS\x01\x00\x07\x00\x00\x00\x00\x00\x00\x00\x68\x5b\x02\x00";
        vec![[&header[..], &[0x40; 64]].concat()]
    },
    words: &[],
    run: |input| match KeyFile::parse(input) {
        Ok(keys) => {
            let lanes = keys.private_keys.len();
            assert_eq!(input.len(), 20 + 32 * lanes, "every byte has a meaning");
            assert!(
                usize::from(keys.first_port) + lanes <= 0x1_0000,
                "every lane has a port"
            );
            lanes as u64
        }
        Err(KeyFormatError::Magic) => 0x100,
        Err(KeyFormatError::Version(_)) => 0x101,
        Err(KeyFormatError::Size { .. }) => 0x102,
        Err(KeyFormatError::Range(field)) => 0x103 + field.len() as u64,
    },
};

pub(crate) const MANIFEST: Target = Target {
    name: "manifest",
    about: "YAML manifests of the directory source",
    seeds: || MANIFESTS.iter().map(|text| text.as_bytes().to_vec()).collect(),
    words: &[
        "---\n",
        "\n",
        "  ",
        "- ",
        ": ",
        "kind: Mesh\n",
        "kind: Node\n",
        "kind: Pod\n",
        "kind: NodeTunnel\n",
        "kind: ExternalPeer\n",
        "kind: List\n",
        "items:\n",
        "apiVersion: v1\n",
        "metadata:\n",
        "spec:\n",
        "status:\n",
        "name: a\n",
        "null",
        "true",
        "[]",
        "{}",
        "0",
        "-1",
        "65536",
        "1e999",
        "~",
        "!!binary ",
        "&a ",
        "*a",
        "<<: ",
        "\u{feff}",
        "10.77.0.0/16",
        "fd77::/48",
        "10.77.0.0/33",
    ],
    run: |input| {
        let mut hasher = DefaultHasher::new();
        match manifest::parse("m.yaml", input) {
            Ok(parsed) => {
                for object in &parsed.objects {
                    std::mem::discriminant(object).hash(&mut hasher);
                }
                parsed.notices.len().hash(&mut hasher);
            }
            Err(problems) => {
                assert!(!problems.is_empty(), "an error says what is wrong");
                let lines = input.iter().filter(|byte| YAML_BREAKS.contains(byte)).count() + 2;
                for problem in &problems {
                    assert_eq!(problem.file, "m.yaml");
                    assert!(
                        problem.line.is_none_or(|line| (1..=lines).contains(&line)),
                        "{problem}"
                    );
                    assert!(!problem.text.contains('\n'), "a problem is one line: {problem}");
                    (&problem.field, problem.text.len() / 16).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    },
};

/// What ends a line in YAML 1.1 §5.4: LF, CR, and the last bytes of NEL, LS and PS.
const YAML_BREAKS: [u8; 5] = [b'\n', b'\r', 0x85, 0xa8, 0xa9];

const MANIFESTS: &[&str] = &[
    "apiVersion: hauberk.dev/v1alpha1\nkind: Mesh\nmetadata:\n  name: default\nspec:\n  encryption:\n    \
     enabled: true\n    podCIDRs: ['10.77.0.0/16', 'fd77::/48']\n    lanes: 2\n    listenPort: 23400\n    \
     unreachableNodes: Drop\n  policy:\n    enforcer: Hauberk\n",
    "apiVersion: v1\nkind: Node\nmetadata:\n  name: a\n  uid: 0b0c\nspec:\n  podCIDR: 10.77.1.0/24\n  \
     podCIDRs: [10.77.1.0/24, 'fd77:1::/64']\nstatus:\n  addresses:\n  - {type: InternalIP, address: 192.168.77.1}\n",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: default\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  \
     name: a1\n  namespace: default\n  labels: {app: web}\nspec:\n  nodeName: a\n  serviceAccountName: default\n  \
     containers: []\nstatus:\n  phase: Running\n  podIPs:\n  - ip: 10.77.1.2\n  - ip: fd77:1::2\n",
    "apiVersion: hauberk.dev/v1alpha1\nkind: NodeTunnel\nmetadata:\n  name: a\nspec:\n  generations:\n  - id: 1\n    \
     lanes:\n    - publicKey: 6EtabScXwQA6E7QxVwNTusqpFGzxUMX4V1aA/rpSAno=\n      port: 23400\n  \
     addresses: [192.168.77.1]\n",
    "apiVersion: hauberk.dev/v1alpha1\nkind: ExternalPeer\nmetadata:\n  name: laptop\nspec:\n  \
     publicKey: 6EtabScXwQA6E7QxVwNTusqpFGzxUMX4V1aA/rpSAno=\n  endpoint: 192.0.2.1:51820\n  \
     allowedIPs: [198.51.100.0/24]\n  persistentKeepalive: 25\n",
];
