//! What must not verify, and what must.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    Lane, MeshCa, NodeKey,
    fixture::{self, DAY, NOW, domain, node_a, node_b, statement},
    validity::BACKDATE,
};

/// A mesh, A's credential and A's binding over A's statement.
fn bound() -> (fixture::Mesh, Credential, String) {
    let mesh = fixture::Mesh::new();
    let credential = mesh.credential(&node_a());
    let text = sign(&credential, &statement(&node_a()), NOW).unwrap();
    (mesh, credential, text)
}

#[test]
fn a_binding_verifies_and_says_what_was_signed() {
    let (mesh, _, text) = bound();
    let binding = verify(&text, &mesh.bundle, statement(&node_a()), NOW).unwrap();
    assert_eq!(binding.statement(), &statement(&node_a()));
    assert_eq!(binding.validity().not_after(), seconds(NOW.as_secs() + DAY));
}

#[test]
fn a_node_cannot_sign_for_another() {
    let (mesh, credential, text) = bound();
    // A's own binding, offered as B's.
    let found = verify(&text, &mesh.bundle, statement(&node_b()), NOW);
    assert!(matches!(found, Err(BindingError::OtherNode { .. })));
    // B's name, signed with A's key under A's certificate.
    let found = sign(&credential, &statement(&node_b()), NOW);
    assert!(matches!(found, Err(SignError::OtherNode { .. })));
    let forged = forge(&credential, credential.chain(), &statement(&node_b()));
    let found = verify(&forged, &mesh.bundle, statement(&node_b()), NOW);
    assert!(matches!(found, Err(BindingError::OtherNode { .. })));
    // B's name, signed with A's key under B's certificate.
    let forged = forge(
        &credential,
        mesh.credential(&node_b()).chain(),
        &statement(&node_b()),
    );
    let found = verify(&forged, &mesh.bundle, statement(&node_b()), NOW);
    assert!(matches!(found, Err(BindingError::Signature)));
    // A's own chain with B's certificate behind it, or before it.
    let other = mesh.chain(&node_b()).remove(0);
    let own = credential.chain()[0].clone();
    let forged = forge(&credential, &[own.clone(), other.clone()], &statement(&node_b()));
    assert!(verify(&forged, &mesh.bundle, statement(&node_b()), NOW).is_err());
    let forged = forge(&credential, &[other, own], &statement(&node_b()));
    assert!(verify(&forged, &mesh.bundle, statement(&node_b()), NOW).is_err());
}

#[test]
fn a_node_that_came_back_under_its_name_is_another_node() {
    let (mesh, _, text) = bound();
    let reborn = NodeIdentity::new(domain(), node_a().name(), node_b().uid()).unwrap();
    let found = verify(&text, &mesh.bundle, statement(&reborn), NOW);
    assert!(matches!(found, Err(BindingError::OtherNode { .. })));
}

#[test]
fn whatever_is_changed_beside_the_binding_is_refused() {
    let (mesh, _, text) = bound();
    type Change = fn(&mut Statement);
    let changes: [(&str, Change); 13] = [
        ("cluster", |s| s.cluster.push('x')),
        ("newer generation", |s| s.generation += 1),
        ("older generation", |s| s.generation -= 1),
        ("port", |s| s.lanes[0].port += 1),
        ("key", |s| s.lanes[1].public_key[31] ^= 1),
        ("lanes' order", |s| s.lanes.swap(0, 1)),
        ("ports' order", |s| {
            let port = s.lanes[0].port;
            s.lanes[0].port = s.lanes[1].port;
            s.lanes[1].port = port;
        }),
        ("fewer lanes", |s| s.lanes.truncate(1)),
        ("more lanes", |s| {
            s.lanes.push(Lane {
                public_key: [9; 32],
                port: 9,
            })
        }),
        ("address", |s| s.addresses[0] = IpAddr::from([192, 0, 2, 99])),
        ("addresses' order", |s| s.addresses.swap(0, 1)),
        ("fewer addresses", |s| s.addresses.truncate(1)),
        ("no lanes", |s| s.lanes.clear()),
    ];
    for (name, change) in changes {
        let mut expected = statement(&node_a());
        change(&mut expected);
        let found = verify(&text, &mesh.bundle, expected, NOW);
        assert!(matches!(found, Err(BindingError::Signature)), "{name}");
    }
}

#[test]
fn a_binding_of_another_ca_is_refused() {
    let (_, _, text) = bound();
    let found = verify(&text, &fixture::Mesh::new().bundle, statement(&node_a()), NOW);
    assert!(matches!(
        found,
        Err(BindingError::Certificate(CertificateError::Untrusted(_)))
    ));
}

#[test]
fn a_binding_under_the_cas_own_certificate_is_refused() {
    let (mesh, credential, _) = bound();
    let ca = crate::certificate::chain_from_pem(&mesh.ca.certificate_pem()).unwrap();
    let forged = forge(&credential, &ca, &statement(&node_a()));
    let found = verify(&forged, &mesh.bundle, statement(&node_a()), NOW);
    assert!(matches!(
        found,
        Err(BindingError::Certificate(CertificateError::IsCa))
    ));
}

#[test]
fn expiry_is_told_from_everything_else() {
    let (mesh, credential, text) = bound();
    let at = |time: u64, expected: Statement| verify(&text, &mesh.bundle, expected, seconds(time));
    let end = NOW.as_secs() + DAY;
    let start = NOW.as_secs() - BACKDATE.as_secs();
    for time in [start, NOW.as_secs(), end] {
        assert!(at(time, statement(&node_a())).is_ok());
    }
    let found = at(end + 1, statement(&node_a()));
    assert!(matches!(
        found,
        Err(BindingError::Time(TimeError::Expired { seconds: 1 }))
    ));
    let found = at(start - 1, statement(&node_a()));
    assert!(matches!(
        found,
        Err(BindingError::Time(TimeError::NotYetValid { seconds: 1 }))
    ));

    // Late and wrong is wrong.
    let mut changed = statement(&node_a());
    changed.lanes[0].port += 1;
    assert!(matches!(at(end + 1, changed), Err(BindingError::Signature)));
    assert!(matches!(
        at(end + 1, statement(&node_b())),
        Err(BindingError::OtherNode { .. })
    ));
    let other = fixture::Mesh::new().bundle;
    let found = verify(&text, &other, statement(&node_a()), seconds(end + 1));
    assert!(matches!(
        found,
        Err(BindingError::Certificate(CertificateError::Untrusted(_)))
    ));

    let found = sign(&credential, &statement(&node_a()), seconds(end + 1));
    assert!(matches!(found, Err(SignError::Time(_))));
}

#[test]
fn the_validity_beside_the_signature_is_signed_too() {
    let (mesh, _, text) = bound();
    let mut bytes = STANDARD.decode(&text).unwrap();
    for last in [8, 16] {
        bytes[last] ^= 1;
        let changed = STANDARD.encode(&bytes);
        let found = verify(&changed, &mesh.bundle, statement(&node_a()), NOW);
        assert!(matches!(found, Err(BindingError::Signature)));
        bytes[last] ^= 1;
    }
}

#[test]
fn a_binding_that_is_cut_anywhere_is_refused_without_a_panic() {
    let (mesh, _, text) = bound();
    for length in 0..text.len() {
        let found = verify(&text[..length], &mesh.bundle, statement(&node_a()), NOW);
        assert!(found.is_err(), "{length}");
    }
    let bytes = STANDARD.decode(&text).unwrap();
    for length in 0..bytes.len() {
        let found = verify(
            &STANDARD.encode(&bytes[..length]),
            &mesh.bundle,
            statement(&node_a()),
            NOW,
        );
        assert!(matches!(found, Err(BindingError::Malformed(_))), "{length}");
    }
}

#[test]
fn a_binding_that_is_changed_anywhere_is_refused() {
    let (mesh, _, text) = bound();
    let bytes = STANDARD.decode(&text).unwrap();
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let found = verify(&STANDARD.encode(&bytes), &mesh.bundle, statement(&node_a()), NOW);
        assert!(found.is_err(), "byte {at}");
    }
    for text in [
        text.clone() + "AAAA",
        format!(" {text}"),
        format!("{text}\n"),
        "A".repeat(MAX_TEXT + 4),
    ] {
        let found = verify(&text, &mesh.bundle, statement(&node_a()), NOW);
        assert!(matches!(found, Err(BindingError::Malformed(_))));
    }
}

#[test]
fn a_signature_for_another_purpose_is_no_binding() {
    let (mesh, credential, _) = bound();
    let validity = credential.validity();
    let bytes = statement(&node_a()).bytes(&validity);
    // RFC 8446 §4.4.3, and the statement without its context.
    let tls = [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &bytes].concat();
    let bare = bytes[b"hauberk.dev node binding 1\0".len()..].to_vec();
    for message in [tls, bare] {
        let signature = credential.sign(&message).unwrap();
        let text = STANDARD.encode(write(&validity, credential.chain(), &signature));
        let found = verify(&text, &mesh.bundle, statement(&node_a()), NOW);
        assert!(matches!(found, Err(BindingError::Signature)));
    }
}

#[test]
fn an_older_generation_or_statement_does_not_come_back() {
    let mesh = fixture::Mesh::new();
    let credential = mesh.credential(&node_a());
    let binding = |generation, now| {
        let statement = Statement {
            generation,
            ..statement(&node_a())
        };
        let text = sign(&credential, &statement, seconds(now)).unwrap();
        verify(&text, &mesh.bundle, statement, seconds(now)).unwrap()
    };
    let now = NOW.as_secs();
    let mut newest = Newest::default();
    assert_eq!(newest.note(&binding(7, now)), Ok(()));
    assert_eq!(newest.note(&binding(7, now)), Ok(()));
    assert_eq!(newest.note(&binding(7, now + 60)), Ok(()));
    assert_eq!(
        newest.note(&binding(7, now)),
        Err(Stale {
            generation: 7,
            seen: 7
        })
    );
    assert_eq!(newest.note(&binding(8, now)), Ok(()));
    assert_eq!(
        newest.note(&binding(7, now + 120)),
        Err(Stale {
            generation: 7,
            seen: 8
        })
    );
    assert_eq!(newest.note(&binding(8, now)), Ok(()));
}

#[test]
fn a_binding_is_small_and_two_with_128_lanes_fit_16_kib() {
    let (_, _, text) = bound();
    assert!((700..=900).contains(&text.len()), "{} bytes", text.len());

    let mesh = fixture::Mesh::new();
    let longest = NodeIdentity::new(domain(), &"n".repeat(253), node_a().uid()).unwrap();
    let text = sign(&mesh.credential(&longest), &statement(&longest), NOW).unwrap();
    assert!(text.len() <= 1200, "{} bytes", text.len());

    // As NodeTunnel writes them in JSON, with the longest binding that is read at all.
    let lane = format!(r#"{{"publicKey":"{}","port":65535}},"#, "k".repeat(44));
    let generation = format!(
        r#"{{"id":{},"lanes":[{}],"binding":"{}"}},"#,
        u64::MAX,
        lane.repeat(64),
        "b".repeat(MAX_TEXT)
    );
    let addresses = r#""2001:db8:1111:2222:3333:4444:5555:6666","#.repeat(4);
    let spec = format!(
        r#"{{"generations":[{}],"addresses":[{addresses}]}}"#,
        generation.repeat(2)
    );
    // Room for the object's metadata and status.
    assert!(spec.len() <= 15 * 1024, "{} bytes", spec.len());
}

#[test]
fn a_binding_under_an_intermediate_ca_verifies() {
    let (bundle, credential) = fixture::credential_with_intermediate();
    let text = sign(&credential, &statement(&node_a()), NOW).unwrap();
    assert!(verify(&text, &bundle, statement(&node_a()), NOW).is_ok());
}

#[test]
fn a_binding_that_peers_would_not_read_is_not_signed() {
    let key = rcgen::KeyPair::generate().unwrap();
    let der = fixture::self_signed_by(&key, |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.subject_alt_names.clear();
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "long".repeat(600));
    });
    let pem = crate::pem::encode(crate::pem::CERTIFICATE, &der);
    let ca = MeshCa::load(&pem, &key.serialize_pem(), &domain());
    let mesh = fixture::Mesh::of(ca.unwrap());
    let found = sign(&mesh.credential(&node_a()), &statement(&node_a()), NOW);
    assert!(matches!(found, Err(SignError::Long(_))));
}

#[test]
fn a_key_that_nobody_vouches_for_signs_nothing_that_is_believed() {
    let (mesh, credential, _) = bound();
    let stranger = NodeKey::generate().unwrap();
    let validity = credential.validity();
    let signature = stranger.sign(&statement(&node_a()).bytes(&validity)).unwrap();
    let text = STANDARD.encode(write(&validity, credential.chain(), &signature));
    let found = verify(&text, &mesh.bundle, statement(&node_a()), NOW);
    assert!(matches!(found, Err(BindingError::Signature)));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Some(count) = bytes.get_mut(17) {
            *count %= 5;
        }
        if let Ok(signed) = Signed::read(&mut bytes.as_slice()) {
            prop_assert_eq!(write(&signed.validity, &signed.chain, &signed.signature), bytes);
        }
    }
}

/// A binding as an attacker with this credential's key could write it.
fn forge(credential: &Credential, chain: &[CertificateDer<'_>], statement: &Statement) -> String {
    let validity = credential.validity();
    let signature = credential.sign(&statement.bytes(&validity)).unwrap();
    STANDARD.encode(write(&validity, chain, &signature))
}
