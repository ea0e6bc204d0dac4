//! A certificate authority: it signs server and client certificates.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SigningKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::identity::{parse, validity};
use crate::{Bundle, Identity, PkiError, Validity, der, pem};

const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Certificates are valid from a little before they are made, for machines whose clocks differ.
const SKEW: Duration = HOUR;
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * YEAR.as_secs());
const LEAF_LIFE: Duration = YEAR;

/// A certificate authority with its private key.
///
/// An authority lives ten years, what it issues one year (see [`Authority::with_leaf_life`]), never longer than
/// itself. To rotate it, make a successor, let everybody trust a [`Bundle`] of both, and only then issue from the new.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The authority's name as the certificate has it, in DER.
    name: Vec<u8>,
    validity: Validity,
    leaf_life: Duration,
}

impl Authority {
    /// Makes an authority of this name that signs itself.
    pub fn new(common_name: &str, now: SystemTime) -> Result<Self, PkiError> {
        Self::lasting(common_name, AUTHORITY_LIFE, now)
    }

    /// The same, for another time than ten years: for authorities that are replaced without anybody's doing.
    pub fn lasting(common_name: &str, life: Duration, now: SystemTime) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(|source| PkiError::Key { source })?;
        let mut params = params(now, life, None)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(|source| PkiError::Sign { source })?;
        Self::load(certificate.into(), key)
    }

    /// Loads an authority from its certificate and its key in PKCS #8.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let certificate = pem::read_certificates(certificate)?.swap_remove(0);
        let key = KeyPair::from_pem(key).map_err(|source| PkiError::Key { source })?;
        Self::load(certificate, key)
    }

    fn load(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, PkiError> {
        let parsed = parse(&certificate)?;
        if !parsed.is_ca() {
            return Err(PkiError::NotAnAuthority);
        }
        if &*parsed.public_key().subject_public_key.data != key.der_bytes() {
            return Err(PkiError::KeyMismatch);
        }
        let name = parsed.subject().as_raw().to_vec();
        let validity = validity(&parsed)?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|source| PkiError::Sign { source })?;
        Ok(Self { issuer, certificate, name, validity, leaf_life: LEAF_LIFE })
    }

    /// The same authority, issuing certificates that live so long.
    #[must_use]
    pub fn with_leaf_life(mut self, life: Duration) -> Self {
        self.leaf_life = life;
        self
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate as PEM: what goes into a kubeconfig or a `caBundle`.
    pub fn certificate_pem(&self) -> String {
        pem::write("CERTIFICATE", &self.certificate)
    }

    /// The private key as PEM (PKCS #8). Whoever has it can become anybody.
    pub fn key_pem(&self) -> String {
        pem::write("PRIVATE KEY", self.issuer.key().serialized_der())
    }

    /// A bundle of this authority alone.
    pub fn bundle(&self) -> Bundle {
        Bundle::from(vec![self.certificate.clone()])
    }

    /// The authority is valid until then.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    /// When to make a successor: after two thirds of the validity.
    pub fn renew_at(&self) -> SystemTime {
        self.validity.renew_at()
    }

    /// A serving certificate for these DNS names (a leading `*.` label is allowed) and addresses. The first name, or
    /// else address, is its common name.
    pub fn server(
        &self,
        names: &[impl AsRef<str>],
        addresses: &[IpAddr],
        now: SystemTime,
    ) -> Result<Identity, PkiError> {
        let mut params = self.leaf(ExtendedKeyUsagePurpose::ServerAuth, now)?;
        for name in names {
            let name = name.as_ref();
            let encoded =
                name.try_into().map_err(|source| PkiError::Name { name: name.to_owned(), source })?;
            params.subject_alt_names.push(SanType::DnsName(encoded));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        let first = names.first().map(|name| name.as_ref().to_owned());
        let common_name = first.or_else(|| addresses.first().map(IpAddr::to_string)).unwrap_or_default();
        self.issue(&params, &der::name(&common_name, &[]))
    }

    /// A client certificate for a user (its common name) in groups (its organizations).
    pub fn client(
        &self,
        user: &str,
        groups: &[impl AsRef<str>],
        now: SystemTime,
    ) -> Result<Identity, PkiError> {
        if user.is_empty() {
            return Err(PkiError::NoUser);
        }
        let groups: Vec<&str> = groups.iter().map(AsRef::as_ref).collect();
        let params = self.leaf(ExtendedKeyUsagePurpose::ClientAuth, now)?;
        self.issue(&params, &der::name(user, &groups))
    }

    fn leaf(&self, usage: ExtendedKeyUsagePurpose, now: SystemTime) -> Result<CertificateParams, PkiError> {
        let mut params = params(now, self.leaf_life, Some(self.validity.not_after))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn issue(&self, params: &CertificateParams, subject: &[u8]) -> Result<Identity, PkiError> {
        let key = KeyPair::generate().map_err(|source| PkiError::Key { source })?;
        let signing = |source| PkiError::Sign { source };
        let draft = params.signed_by(&key, &self.issuer).map_err(signing)?;
        let certificate = der::renamed(draft.der(), &self.name, Some(subject), |message| {
            self.issuer.key().sign(message).map_err(signing)
        })?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity::new(vec![CertificateDer::from(certificate)], key)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// Parameters of a certificate valid from a little before `now`, for `life`, and not after `limit`.
fn params(now: SystemTime, life: Duration, limit: Option<SystemTime>) -> Result<CertificateParams, PkiError> {
    let not_before = now.checked_sub(SKEW).ok_or(PkiError::Time)?;
    let not_after = now.checked_add(life).ok_or(PkiError::Time)?;
    let not_after = limit.map_or(not_after, |limit| limit.min(not_after));
    let mut params = CertificateParams::default();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}
