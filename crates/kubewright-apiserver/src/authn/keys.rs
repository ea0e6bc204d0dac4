//! Keys that sign tokens, and the signed form itself: compact JSON Web Signatures (RFC 7515) by ES256 or RS256.
//!
//! Claims flow in and a token comes out, or the other way round. Only the algorithm that belongs to a key is ever
//! accepted with it; what the claims say is judged elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Longer tokens are refused unread.
const MAX_TOKEN: usize = 64 * 1024;

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text holds no private key.
    #[error("not a private key in PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The key is of another kind than RSA (2048 bits and more) and P-256 in PKCS#8, or RSA in PKCS#1.
    #[error("the key is neither P-256 in PKCS#8 nor RSA of 2048 bits or more")]
    Unsupported,
    /// The system's randomness failed.
    #[error("no key could be generated")]
    Generate,
}

enum Private {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A key that signs.
pub struct SigningKey {
    private: Private,
    public: PublicKey,
    pem: String,
}

/// A key that tokens are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Key id: the digest of the key as SubjectPublicKeyInfo, as Kubernetes makes it.
    pub id: String,
    /// `ES256` or `RS256`.
    pub algorithm: &'static str,
    key: Vec<u8>,
}

impl SigningKey {
    /// A new P-256 key. Costs well below a millisecond.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Generate)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// A key from PEM: P-256 in PKCS#8, RSA in PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// When the text holds no such key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        match PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(KeyError::Pem)? {
            PrivateKeyDer::Pkcs8(der) => Self::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => {
                let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(|_| KeyError::Unsupported)?;
                Ok(Self::rsa(pair, text.to_string()))
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pem = pem(der);
        if let Ok(pair) =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
        {
            let key = pair.public_key().as_ref().to_vec();
            let public = PublicKey { id: key_id(&ec_info(&key)), algorithm: "ES256", key };
            return Ok(Self { private: Private::Ec(Box::new(pair)), public, pem });
        }
        let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::Unsupported)?;
        Ok(Self::rsa(pair, pem))
    }

    fn rsa(pair: RsaKeyPair, pem: String) -> Self {
        let key = pair.public_key().as_ref().to_vec();
        let public = PublicKey { id: key_id(&rsa_info(&key)), algorithm: "RS256", key };
        Self { private: Private::Rsa(Box::new(pair)), public, pem }
    }

    /// What tokens of this key are checked with.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private key in PEM, to be kept where nobody else reads it.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// A token with these claims. `None` when the system gives no randomness.
    pub fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": self.public.algorithm, "kid": self.public.id});
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let random = SystemRandom::new();
        let signature = match &self.private {
            Private::Ec(pair) => pair.sign(&random, token.as_bytes()).ok()?.as_ref().to_vec(),
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut signature).ok()?;
                signature
            }
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

impl PublicKey {
    /// A key from a JSON Web Key (RFC 7517): P-256 or RSA, and not for encryption. Its id is the `kid` that it has there.
    /// `None` for any other key: a key set may hold keys that are not for us.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(jwk[field].as_str()?).ok();
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let (algorithm, key) = match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                ("ES256", (x.len() == 32 && y.len() == 32).then(|| [&[4][..], &x, &y].concat())?)
            }
            ("RSA", _) => {
                let number = |digits: Vec<u8>| {
                    // A number with its highest bit set would be a negative one.
                    let sign: &[u8] =
                        if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
                    element(0x02, &[sign, &digits].concat())
                };
                ("RS256", element(0x30, &[number(bytes("n")?), number(bytes("e")?)].concat()))
            }
            _ => return None,
        };
        if jwk.get("alg").is_some_and(|said| said != algorithm) {
            return None;
        }
        Some(Self { id: jwk["kid"].as_str().unwrap_or_default().to_string(), algorithm, key })
    }

    /// The keys in a PEM file: public ones as SubjectPublicKeyInfo, and the public halves of private ones.
    ///
    /// # Errors
    /// When the file is malformed, or holds no key or one of another kind.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, KeyError> {
        if let Ok(private) = SigningKey::from_pem(text) {
            return Ok(vec![private.public]);
        }
        let found = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes());
        let keys: Vec<Self> = found
            .map(|info| Self::from_info(&info.map_err(KeyError::Pem)?).ok_or(KeyError::Unsupported))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeyError::Unsupported) } else { Ok(keys) }
    }

    fn from_info(der: &[u8]) -> Option<Self> {
        let (content, _) = open(0x30, der)?;
        let (algorithm, rest) = open(0x30, content)?;
        let (bits, _) = open(0x03, rest)?;
        let key = bits.strip_prefix(&[0])?.to_vec();
        let algorithm = match algorithm {
            EC_ALGORITHM => "ES256",
            RSA_ALGORITHM => "RS256",
            _ => return None,
        };
        Some(Self { id: key_id(der), algorithm, key })
    }

    /// The key as JSON Web Key.
    pub fn to_jwk(&self) -> Value {
        let mut jwk = json!({"use": "sig", "kid": self.id, "alg": self.algorithm});
        if self.algorithm == "ES256" {
            let (x, y) = self.key[1..].split_at((self.key.len() - 1) / 2);
            jwk["kty"] = "EC".into();
            jwk["crv"] = "P-256".into();
            jwk["x"] = URL_SAFE_NO_PAD.encode(x).into();
            jwk["y"] = URL_SAFE_NO_PAD.encode(y).into();
        } else {
            let (modulus, exponent) = rsa_numbers(&self.key).unwrap_or_default();
            jwk["kty"] = "RSA".into();
            jwk["n"] = URL_SAFE_NO_PAD.encode(modulus).into();
            jwk["e"] = URL_SAFE_NO_PAD.encode(exponent).into();
        }
        jwk
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm =
            if self.algorithm == "ES256" { &ECDSA_P256_SHA256_FIXED } else { &RSA_PKCS1_2048_8192_SHA256 };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }
}

/// The claims of a token, not yet trusted: for telling whose it is. `None` when it is no token of this form.
pub fn unverified_claims(token: &str) -> Option<Value> {
    parts(token).and_then(|[_, claims, _]| decode(claims)).filter(Value::is_object)
}

/// The claims of a token that one of the keys has signed.
pub fn verified_claims<'k>(token: &str, keys: impl IntoIterator<Item = &'k PublicKey>) -> Option<Value> {
    let [header, claims, signature] = parts(token)?;
    let said = decode(header)?;
    let message = &token.as_bytes()[..header.len() + 1 + claims.len()];
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let may_be_of = |key: &&PublicKey| {
        said["alg"] == key.algorithm && said.get("kid").is_none_or(|kid| kid == key.id.as_str())
    };
    let signed = keys.into_iter().filter(may_be_of).any(|key| key.verifies(message, &signature));
    if signed { decode(claims).filter(Value::is_object) } else { None }
}

fn parts(token: &str) -> Option<[&str; 3]> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut parts = token.split('.');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END PRIVATE KEY-----\n");
    out
}

fn key_id(info: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(info))
}

/// One DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant: &[u8] = &bytes[bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1)..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

/// SubjectPublicKeyInfo around an algorithm and a key.
fn info(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(key);
    let mut content = element(0x30, algorithm);
    content.extend(element(0x03, &bits));
    element(0x30, &content)
}

/// id-ecPublicKey with prime256v1.
const EC_ALGORITHM: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];

/// rsaEncryption with NULL.
const RSA_ALGORITHM: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

fn ec_info(point: &[u8]) -> Vec<u8> {
    info(EC_ALGORITHM, point)
}

fn rsa_info(key: &[u8]) -> Vec<u8> {
    info(RSA_ALGORITHM, key)
}

/// Modulus and exponent of a PKCS#1 public key, without leading zeros.
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = open(0x30, der)?;
    let (modulus, rest) = open(0x02, sequence)?;
    let (exponent, _) = open(0x02, rest)?;
    let significant = |n: &'_ [u8]| n.iter().position(|b| *b != 0).unwrap_or(n.len());
    Some((&modulus[significant(modulus)..], &exponent[significant(exponent)..]))
}

/// The content of the first element, and what follows it.
fn open(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (bytes.iter().fold(0usize, |n, b| n << 8 | usize::from(*b)), rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_the_key_that_signed_it_and_for_no_other() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let claims = json!({"sub": "x"});
        let token = key.sign(&claims).unwrap();
        assert_eq!(verified_claims(&token, [key.public()]), Some(claims.clone()));
        assert_eq!(verified_claims(&token, [other.public()]), None);
        assert_eq!(unverified_claims(&token), Some(claims));
        let again = SigningKey::from_pem(key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
    }

    #[test]
    fn changed_unsigned_and_foreign_tokens_are_not_accepted() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign(&json!({"sub": "x"})).unwrap();
        let [header, _, signature] = parts(&token).unwrap();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"sub":"y"}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let other_algorithm =
            URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": key.public().id}).to_string());
        for bad in [
            format!("{header}.{forged}.{signature}"),
            format!("{none}.{forged}."),
            format!("{other_algorithm}.{forged}.{signature}"),
            format!("{token}x"),
            format!("{token}.x"),
            format!("{header}.{forged}"),
            String::new(),
            "..".into(),
            ".".repeat(100_000),
        ] {
            assert_eq!(verified_claims(&bad, [key.public()]), None, "{bad:.80}");
        }
    }

    #[test]
    fn keys_read_back_from_key_sets_and_from_files() {
        let key = SigningKey::generate().unwrap();
        let public = key.public();
        assert_eq!(PublicKey::from_jwk(&public.to_jwk()).as_ref(), Some(public));
        let der = ec_info(&public.key);
        let file = pem(&der).replace("PRIVATE", "PUBLIC");
        assert_eq!(PublicKey::all_from_pem(&file).unwrap(), std::slice::from_ref(public));
        assert_eq!(PublicKey::all_from_pem(key.to_pem()).unwrap(), std::slice::from_ref(public));
        assert!(PublicKey::all_from_pem("nothing").is_err());
        let rsa = PublicKey {
            id: "r".into(),
            algorithm: "RS256",
            key: element(0x30, &[element(0x02, &[0, 0x81, 7]), element(0x02, &[1, 0, 1])].concat()),
        };
        assert_eq!(PublicKey::from_jwk(&rsa.to_jwk()), Some(rsa));
        let mut other = public.to_jwk();
        other["use"] = "enc".into();
        assert_eq!(PublicKey::from_jwk(&other), None);
    }

    #[test]
    fn elements_of_every_length_open_again() {
        for length in [0, 1, 127, 128, 255, 256, 65_536] {
            let content = vec![7; length];
            let der = element(0x04, &content);
            assert_eq!(open(0x04, &der), Some((&content[..], &[][..])));
            assert_eq!(open(0x05, &der), None);
        }
        assert_eq!(open(0x04, &[0x04, 0x85, 1]), None);
        assert_eq!(open(0x04, &[0x04, 0x02, 1]), None);
    }
}
