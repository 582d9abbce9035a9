//! The control plane's own certificate authority.
//!
//! It is new for every control plane, and its keys are files in a directory that only root can read and
//! that vanishes with the control plane. Certificates never expire as far as a test is concerned.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::KubernetesError;
use crate::error::file;

/// A certificate and its private key, as PEM files.
#[derive(Clone, Debug)]
pub(super) struct CertificateFiles {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    files: CertificateFiles,
    dir: PathBuf,
}

impl Authority {
    /// Makes one; all files go to `dir`.
    pub(super) fn new(dir: &Path) -> Result<Self, KubernetesError> {
        let key = KeyPair::generate()?;
        let mut params = named("hauberk-netlab", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            files: write(dir, "ca", &certificate, &key)?,
            issuer: Issuer::new(params, key),
            certificate,
            dir: dir.into(),
        })
    }

    pub(super) fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// The authority's own certificate.
    pub(super) fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// For a server that is reached by these host names and IP addresses.
    pub(super) fn server(
        &self,
        name: &str,
        reached_by: Vec<String>,
    ) -> Result<CertificateFiles, KubernetesError> {
        let mut params = CertificateParams::new(reached_by)?;
        params.distinguished_name = distinguished(name, None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, &params)
    }

    /// For a user, who is `user` and in `group` to the API server; the files are called `file_name`.
    pub(super) fn client(
        &self,
        file_name: &str,
        user: &str,
        group: Option<&str>,
    ) -> Result<CertificateFiles, KubernetesError> {
        let mut params = named(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file_name, &params)
    }

    fn sign(&self, file_name: &str, params: &CertificateParams) -> Result<CertificateFiles, KubernetesError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write(&self.dir, file_name, &certificate, &key)
    }
}

/// The pair of keys by which ServiceAccount tokens are signed and verified: private, public.
pub(super) fn token_keys(dir: &Path) -> Result<(PathBuf, PathBuf), KubernetesError> {
    let key = KeyPair::generate()?;
    let (private, public) = (dir.join("tokens.key"), dir.join("tokens.pub"));
    write_file(&private, &key.serialize_pem())?;
    write_file(&public, &key.public_key_pem())?;
    Ok((private, public))
}

/// Kubernetes reads a client's name from CN, and its groups from O.
fn named(user: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished(user, group);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn distinguished(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}

fn write(
    dir: &Path,
    name: &str,
    certificate: &Certificate,
    key: &KeyPair,
) -> Result<CertificateFiles, KubernetesError> {
    let files = CertificateFiles {
        certificate: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
    };
    write_file(&files.certificate, &certificate.pem())?;
    write_file(&files.key, &key.serialize_pem())?;
    Ok(files)
}

fn write_file(path: &Path, content: &str) -> Result<(), KubernetesError> {
    Ok(fs::write(path, content).map_err(file("cannot write", path))?)
}
