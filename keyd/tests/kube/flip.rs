//! The flag on and off with the API as the source, and an API server that goes away in between.

use std::time::Duration;

use hauberk_netlab::{LabSpec, ManifestSpec, Wiring};

use crate::conversation::Conversation;
use crate::stage::Stage;

/// A flip may hold a connection up this long.
const STALL: Duration = Duration::from_secs(1);

#[test]
fn kubectl_patch_turns_traffic_to_ciphertext_and_back_and_no_connection_is_lost() {
    let stage = Stage::clear(
        LabSpec::three_nodes("kube-flip", Wiring::Routed),
        ManifestSpec::default(),
    );
    let (v4, v6) = (stage.lab.pod("b1").v4().into(), stage.lab.pod("b1").v6().into());
    let talks = [
        Conversation::start(&stage.lab, "a1", "b1", v4),
        Conversation::start(&stage.lab, "c1", "b1", v6),
    ];
    std::thread::sleep(Duration::from_secs(1));
    let clear = stage.lab.fabric().counts().expect("the fabric counts");
    assert!(
        clear.covered.packets() > 0,
        "clear is seen as clear while the flag is off"
    );
    for talk in &talks {
        talk.longest_wait();
    }

    stage.encrypt();
    std::thread::sleep(Duration::from_secs(1));
    stage.assert_no_clear();
    for talk in &talks {
        talk.goes_on(STALL);
        assert!(talk.longest_wait() < STALL, "the flip held a connection up");
    }

    stage.set_encryption(false);
    stage.wait_phase("Off");
    for talk in &talks {
        talk.goes_on(STALL);
        assert!(talk.longest_wait() < STALL, "the flip back held a connection up");
    }
}
