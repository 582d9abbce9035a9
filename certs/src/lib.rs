//! Mesh CA, node identities and signed key bindings: who a node is, and which WireGuard keys are its own.
//!
//! From a key to a peer that is believed, in order:
//!
//! 1. [`NodeKey`]: the node makes a key and asks for a certificate for its [`NodeIdentity`].
//! 2. [`request::check`]: the signer checks again all that it would sign, and what the API server says of
//!    who asks. Only this makes a [`request::Approved`].
//! 3. [`MeshCa::sign`]: an approval becomes a certificate. Nothing else does.
//! 4. [`Credential`]: the node takes the certificate only if its peers will.
//! 5. [`binding::sign`]: the credential signs a generation's keys, ports and addresses.
//! 6. [`binding::verify`]: a peer checks that against its [`TrustBundle`]. Only this makes a
//!    [`binding::VerifiedBinding`]; [`binding::Newest`] keeps an older one from coming back.
//!
//! Nothing here reads a clock, a file or a socket: the time and the bytes are given. Only the system's
//! random numbers are asked for, for keys, serial numbers and signatures. Secrets that this crate holds are
//! wiped when dropped and never shown by `Debug`; the copies that ring keeps and that a PEM reader makes on
//! its way are not, because neither offers it.
#![forbid(unsafe_code)]

mod authority;
pub mod binding;
mod bundle;
mod ca;
mod certificate;
mod credential;
mod csr;
#[cfg(test)]
mod fixture;
mod identity;
mod key;
mod pem;
pub mod request;
mod statement;
mod validity;

pub use authority::AuthorityError;
pub use bundle::{BundleError, TrustBundle};
pub use ca::{CA_LIFETIME, CaError, MeshCa};
pub use certificate::{CertificateError, MAX_CHAIN, VerifiedCertificate};
pub use credential::{Credential, CredentialError};
pub use csr::{Csr, CsrError};
pub use identity::{IdentityError, NodeIdentity, TrustDomain};
pub use key::{KeyError, NodeKey};
pub use pem::PemError;
pub use rustls_pki_types::{CertificateDer, UnixTime};
pub use statement::{Lane, Statement};
pub use validity::{BACKDATE, TimeError, Validity};
