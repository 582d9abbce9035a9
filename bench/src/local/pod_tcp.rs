//! `pod-tcp`: two nodes with a pod each, once as they come and once with keyd on both and encryption on.
//!
//! The two are labs of their own with the same addresses and wiring, so that `plain` has nothing of Hauberk's on its
//! way, and rounds can be interleaved without switching anything.

use hauberk_netlab::{Lab, LabSpec, ManifestSpec, Mesh, Wiring};

use super::{BenchError, Placement, Route, Stage};
use crate::{
    args::{Case, Enforcer},
    cpu, program,
    report::{HAUBERK, PLAIN},
};

/// Builds both labs and waits until the second encrypts.
pub(super) fn set(enforcer: Enforcer, placement: Placement) -> Result<Stage, BenchError> {
    let plain = Lab::new(LabSpec::two_nodes("bench", Wiring::Routed))?;
    let hauberk = Lab::new(LabSpec::two_nodes("bench", Wiring::Routed))?;
    let manifests = ManifestSpec {
        enforcer: enforcer.name().to_owned(),
        encryption: true,
        ..ManifestSpec::default()
    };
    let mut mesh = Mesh::start(&hauberk, &program::own("keyd")?, &manifests, &[])?;
    mesh.wait_encrypted()?;
    for (node, core) in [("a", placement.core_a()), ("b", placement.core_b())] {
        if let Some(core) = core {
            // After the lanes have started, so that their threads are among those that are moved.
            cpu::pin_process(mesh.process(node).id(), core).map_err(BenchError::Cores)?;
        }
    }
    let routes = vec![route(PLAIN, &plain), route(HAUBERK, &hauberk)];
    Ok(Stage {
        routes,
        _programs: Vec::new(),
        _mesh: Some(mesh),
        _labs: vec![plain, hauberk],
    })
}

impl Enforcer {
    /// As the Mesh's manifest writes it.
    const fn name(self) -> &'static str {
        match self {
            Self::Hauberk => "Hauberk",
            Self::Cni => "CNI",
        }
    }
}

fn route(system: &str, lab: &Lab) -> Route {
    Route {
        system: system.to_owned(),
        case: Case::PodTcp,
        client: lab.pod("a1").netns().clone(),
        server: lab.pod("b1").netns().clone(),
        address: lab.pod("b1").v4().into(),
        log: None,
    }
}
