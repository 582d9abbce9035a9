//! A binding: a node's signature over one generation of its tunnel, with the certificate that vouches for it.
//!
//! As text, in `spec.generations[].binding`, it is base64 of
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 8, 8 | not before, not after: seconds since 1970, both ends included |
//! | 1 | certificates in the chain, 1 to [`MAX_CHAIN`] |
//! | 2 + n, for each | a certificate in DER, the node's first; the trusted CA is left out |
//! | 1 + n | signature: ECDSA P-256 with SHA-256, in ASN.1 DER |
//!
//! What is signed ([`Statement`]) is not in it: the reader knows what it read beside the binding and which
//! node it expects, and asks whether that is what was signed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    CertificateError, Credential, KeyError, MAX_CHAIN, NodeIdentity, Statement, TrustBundle,
    validity::{TimeError, Validity, seconds},
};

/// Longest text that is read, in bytes. A node with a name of 253 characters under a CA with an RSA key of
/// 4096 bits fits, and a NodeTunnel with two such bindings and 128 lanes stays under 16 KiB.
pub const MAX_TEXT: usize = 2560;

const VERSION: u8 = 1;

/// Why a binding is not believed.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// It would be right at another time, and all else about it is right. Expiry keeps a new peer away; it
    /// is no reason to let go of one that is established.
    #[error(
        "binding: outside its validity: see whether `keyd controller` runs and signs, and compare the nodes' \
         clocks"
    )]
    Time(#[source] TimeError),
    /// Not a binding.
    #[error("binding: damaged: {0}")]
    Malformed(&'static str),
    /// The certificate is not believed.
    #[error("binding: its certificate is not believed")]
    Certificate(#[source] CertificateError),
    /// The certificate is another node's, or an earlier one's of the same name.
    #[error("binding: signed by {found}, expected {expected}: did the node come back under its old name?")]
    OtherNode {
        /// Who signed.
        found: Box<NodeIdentity>,
        /// Who should have.
        expected: Box<NodeIdentity>,
    },
    /// The node signed something else: a key, port, address, generation or cluster differs, or an order.
    #[error(
        "binding: the signature is not over what stands beside it (cluster, generation, keys, ports, \
         addresses): was the NodeTunnel edited, or restored from another cluster?"
    )]
    Signature,
}

/// Why a statement was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The certificate is another node's.
    #[error("binding: the certificate is {found}'s, the statement {expected}'s")]
    OtherNode {
        /// Whose certificate it is.
        found: Box<NodeIdentity>,
        /// Whose statement it is.
        expected: Box<NodeIdentity>,
    },
    /// The certificate has expired; peers would refuse the binding.
    #[error(
        "binding: not signed, because this node's certificate is outside its validity: see whether \
         `keyd controller` runs and signs"
    )]
    Time(#[from] TimeError),
    /// Signing failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Peers would refuse it for its length.
    #[error(
        "binding: {0} bytes, of which peers read {MAX_TEXT}: use a CA with an ECDSA key, or fewer \
         intermediates"
    )]
    Long(usize),
}

/// A statement that its node signed. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedBinding {
    statement: Statement,
    signed: Validity,
    validity: Validity,
}

impl VerifiedBinding {
    /// What the node stated.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// When both the binding and its certificate hold.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// The newest binding that was seen of one node; the caller keeps one for each [`NodeIdentity`].
///
/// An older generation, or an older statement of the same generation (other addresses), is still properly
/// signed; this keeps whoever can write the object from bringing it back. To be asked about the newest
/// generation of an object only: while keys rotate, an older one stands beside it, and is signed again when
/// the certificate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest(Option<(u64, UnixTime)>);

/// A binding older than one that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "binding: older than one seen before (generation {generation}, seen {seen}): was the NodeTunnel \
     restored, or the node's clock put back?"
)]
pub struct Stale {
    /// The binding's generation.
    pub generation: u64,
    /// The highest seen.
    pub seen: u64,
}

impl Newest {
    /// Notes this binding, if it isn't older. The same one may come again.
    ///
    /// # Errors
    /// A newer one was seen.
    pub fn note(&mut self, binding: &VerifiedBinding) -> Result<(), Stale> {
        let generation = binding.statement.generation;
        let one = (generation, binding.signed.not_before());
        match self.0 {
            Some(seen) if one < seen => Err(Stale {
                generation,
                seen: seen.0,
            }),
            _ => {
                self.0 = Some(one);
                Ok(())
            }
        }
    }
}

/// Signs a statement: backdated 2 h, and for as long as the certificate holds.
///
/// # Errors
/// The credential is another node's or has expired, or the text would be too long to be read.
pub fn sign(credential: &Credential, statement: &Statement, now: UnixTime) -> Result<String, SignError> {
    if credential.identity() != &statement.node {
        return Err(SignError::OtherNode {
            found: Box::new(credential.identity().clone()),
            expected: Box::new(statement.node.clone()),
        });
    }
    credential.validity().check(now)?;
    let rest = credential.validity().not_after().as_secs() - now.as_secs();
    let validity = Validity::starting(now, Duration::from_secs(rest));
    let signature = credential.sign(&statement.bytes(&validity))?;
    let text = STANDARD.encode(write(&validity, credential.chain(), &signature));
    match text.len() {
        ..=MAX_TEXT => Ok(text),
        length => Err(SignError::Long(length)),
    }
}

/// Whether the node that `expected` names signed `expected`, now.
///
/// # Errors
/// It didn't. [`BindingError::Time`] is said only if nothing but the time is wrong.
pub fn verify(
    text: &str,
    bundle: &TrustBundle,
    expected: Statement,
    now: UnixTime,
) -> Result<VerifiedBinding, BindingError> {
    let signed = Signed::parse(text).map_err(BindingError::Malformed)?;
    let leaf = bundle
        .vouch(&signed.chain, now)
        .map_err(BindingError::Certificate)?;
    if leaf.identity != expected.node {
        return Err(BindingError::OtherNode {
            found: Box::new(leaf.identity),
            expected: Box::new(expected.node),
        });
    }
    if !leaf.signed(&expected.bytes(&signed.validity), &signed.signature) {
        return Err(BindingError::Signature);
    }
    leaf.validity.check(now).map_err(BindingError::Time)?;
    signed.validity.check(now).map_err(BindingError::Time)?;
    let validity = signed.validity.and(&leaf.validity).expect("both hold `now`");
    Ok(VerifiedBinding {
        statement: expected,
        signed: signed.validity,
        validity,
    })
}

/// A binding's parts, of which nothing has been checked.
struct Signed {
    validity: Validity,
    chain: Vec<CertificateDer<'static>>,
    signature: Vec<u8>,
}

impl Signed {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_TEXT {
            return Err("too long");
        }
        let bytes = STANDARD.decode(text).map_err(|_| "not base64")?;
        Self::read(&mut bytes.as_slice())
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "cut short";
        match take(bytes, 1).ok_or(CUT)? {
            [VERSION] => {}
            _ => return Err("another version: the node is newer than this one"),
        }
        let validity = Validity::new(time(bytes).ok_or(CUT)?, time(bytes).ok_or(CUT)?)
            .ok_or("it ends before it begins")?;
        let count = usize::from(take(bytes, 1).ok_or(CUT)?[0]);
        if !(1..=MAX_CHAIN).contains(&count) {
            return Err("too few or too many certificates");
        }
        let mut chain = Vec::with_capacity(count);
        for _ in 0..count {
            let length = take(bytes, 2).ok_or(CUT)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            chain.push(take(bytes, length).ok_or(CUT)?.to_vec().into());
        }
        let length = usize::from(take(bytes, 1).ok_or(CUT)?[0]);
        let signature = take(bytes, length).ok_or(CUT)?.to_vec();
        if !bytes.is_empty() {
            return Err("something follows it");
        }
        Ok(Self {
            validity,
            chain,
            signature,
        })
    }
}

fn write(validity: &Validity, chain: &[CertificateDer<'_>], signature: &[u8]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(validity.not_before().as_secs().to_be_bytes());
    bytes.extend(validity.not_after().as_secs().to_be_bytes());
    bytes.push(u8::try_from(chain.len()).expect("a credential's chain is short"));
    for certificate in chain {
        // A longer one than the prefix can say is longer than MAX_TEXT too, which is checked on the whole.
        bytes.extend(u16::try_from(certificate.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(certificate.as_ref());
    }
    bytes.push(u8::try_from(signature.len()).expect("a P-256 signature is at most 72 bytes"));
    bytes.extend(signature);
    bytes
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn time(bytes: &mut &[u8]) -> Option<UnixTime> {
    let time = u64::from_be_bytes(take(bytes, 8)?.try_into().ok()?);
    Some(seconds(time))
}

#[cfg(test)]
mod tests;
