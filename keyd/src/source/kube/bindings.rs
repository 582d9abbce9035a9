//! The signatures under this node's generations. Each is made once, and again only for another certificate: a
//! signature that differs each time would make every look at the object a write.

use std::net::IpAddr;
use std::sync::Arc;

use hauberk_api::{GenerationSpec, NodeTunnel};
use hauberk_certs::UnixTime;
use hauberk_certs::binding::{self, SignError};

use super::credentials::Signer;
use super::trust;

/// What was signed, and by what.
#[derive(Default)]
pub(super) struct Bindings {
    signer: Option<Arc<Signer>>,
    signed: Vec<Signed>,
}

struct Signed {
    addresses: Vec<IpAddr>,
    /// Without its binding.
    generation: GenerationSpec,
    binding: String,
}

impl Bindings {
    /// Puts a binding to each generation.
    pub(super) fn sign(&mut self, tunnel: &mut NodeTunnel, signer: &Arc<Signer>) -> Result<(), SignError> {
        if !self
            .signer
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, signer))
        {
            self.signer = Some(signer.clone());
            self.signed.clear();
        }
        let addresses = &tunnel.spec.addresses;
        let generations = &mut tunnel.spec.generations;
        self.signed
            .retain(|known| known.addresses == *addresses && generations.contains(&known.generation));
        for generation in generations {
            let known = self.signed.iter().find(|known| known.generation == *generation);
            let binding = match known {
                Some(known) => known.binding.clone(),
                None => {
                    let identity = signer.credential.identity();
                    let statement = trust::statement(&signer.cluster, identity, addresses, generation);
                    let binding = binding::sign(&signer.credential, &statement, UnixTime::now())?;
                    self.signed.push(Signed {
                        addresses: addresses.clone(),
                        generation: generation.clone(),
                        binding: binding.clone(),
                    });
                    binding
                }
            };
            generation.binding = Some(binding);
        }
        Ok(())
    }
}
