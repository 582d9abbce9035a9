//! PEM (RFC 7468), bounded: what Secrets, ConfigMaps and CertificateSigningRequests hold.
//!
//! Written here, so that a key's text is wiped when dropped; read by rustls's parser.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// Longest text that is read, in bytes: a bundle of 16 CAs with RSA keys of 4096 bits fits.
const MAX_TEXT: usize = 64 * 1024;
/// Bytes of DER in a line of 64 characters (RFC 7468 §2).
const LINE: usize = 48;

/// Why a text is not the PEM that is needed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Not PEM.
    #[error("not PEM")]
    Syntax,
    /// No section of the kind that is needed.
    #[error("no `{0}` section in the PEM text")]
    Missing(&'static str),
    /// More sections than make sense.
    #[error("more `{kind}` sections than {most} in the PEM text")]
    Many {
        /// What there is too much of.
        kind: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// Longer than 64 KiB.
    #[error("more than 64 KiB of PEM text")]
    Long,
}

/// Label of a certificate.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
/// Label of a certificate signing request.
pub(crate) const REQUEST: &str = "CERTIFICATE REQUEST";
/// Label of a PKCS#8 key.
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";

/// One section with this label.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    // Room for all of it at once: a text that grows leaves copies of a key behind.
    let room = der.len() * 4 / 3 + der.len() / LINE + 2 * label.len() + 64;
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in der.chunks(LINE) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// All sections of `T`'s kind, at least one and at most `most`. Others are passed over.
pub(crate) fn decode<T: PemObject>(text: &str, kind: &'static str, most: usize) -> Result<Vec<T>, PemError> {
    if text.len() > MAX_TEXT {
        return Err(PemError::Long);
    }
    let mut found = Vec::new();
    for section in T::pem_slice_iter(text.as_bytes()) {
        if found.len() == most {
            return Err(PemError::Many { kind, most });
        }
        found.push(section.map_err(|_| PemError::Syntax)?);
    }
    if found.is_empty() {
        return Err(PemError::Missing(kind));
    }
    Ok(found)
}

/// The one section of `T`'s kind.
pub(crate) fn decode_one<T: PemObject>(text: &str, kind: &'static str) -> Result<T, PemError> {
    let mut found = decode(text, kind, 1)?;
    Ok(found.pop().expect("`decode` finds at least one"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::CertificateDer;

    use super::*;

    #[test]
    fn a_section_reads_back_as_it_was_written() {
        for size in [1, 47, 48, 49, 500] {
            let der = vec![0xa5; size];
            let text = encode(CERTIFICATE, &der);
            assert!(text.capacity() >= text.len() && text.lines().all(|line| line.len() <= 64));
            let read: CertificateDer<'_> = decode_one(&text, CERTIFICATE).unwrap();
            assert_eq!(read.as_ref(), der);
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_said() {
        let one = encode(CERTIFICATE, b"x");
        let read = |text: &str| decode_one::<CertificateDer<'_>>(text, CERTIFICATE).unwrap_err();
        assert_eq!(read(""), PemError::Missing(CERTIFICATE));
        assert_eq!(read(&encode(REQUEST, b"x")), PemError::Missing(CERTIFICATE));
        assert_eq!(
            read(&one.repeat(2)),
            PemError::Many {
                kind: CERTIFICATE,
                most: 1
            }
        );
        assert_eq!(read(&one.replace("eA==", "!!")), PemError::Syntax);
        assert_eq!(read(&" ".repeat(MAX_TEXT + 1)), PemError::Long);
    }

    #[test]
    fn the_text_of_a_key_is_never_moved_while_it_is_written() {
        for size in 0..2000 {
            let der = vec![7; size];
            let room = size * 4 / 3 + size / LINE + 2 * PRIVATE_KEY.len() + 64;
            assert!(encode(PRIVATE_KEY, &der).len() <= room, "{size}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = decode::<CertificateDer<'_>>(&text, CERTIFICATE, 2);
        }
    }
}
