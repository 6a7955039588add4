//! Keys that tokens are checked with. Each has one algorithm, which is its own and not the token's choice (RFC 8725, 3.1).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use xpush_core::ports::directory::KeyRecord;

/// A key. Not `Debug`: it may hold a secret.
pub(super) struct VerifyingKey {
    /// What a token's header names it by.
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
}

/// Why a key cannot be used, for whoever sets it up.
pub type Unusable = &'static str;

/// Whether tokens could be checked with this key.
pub fn usable(record: &KeyRecord) -> Result<(), Unusable> {
    VerifyingKey::from_record(record).map(drop)
}

/// The algorithms that tokens may have (RFC 7518, 3.1; RFC 8037), by name. `none` is no algorithm.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::HS256),
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

impl VerifyingKey {
    /// An app's own key.
    pub(super) fn from_record(record: &KeyRecord) -> Result<Self, Unusable> {
        let algorithm =
            algorithm(&record.algorithm).ok_or("its algorithm is none of HS256, RS256, ES256 and EdDSA")?;
        let material = record.material.as_bytes();
        let pem = record.material.trim_start().starts_with("-----BEGIN");
        let key = if algorithm == Algorithm::HS256 {
            if pem {
                // Everybody may know a public key: as a secret it would let everybody sign.
                return Err("a PEM key is no HS256 secret");
            }
            if material.len() < 32 {
                return Err("an HS256 secret has at least 32 bytes");
            }
            DecodingKey::from_secret(material)
        } else {
            if !record.material.trim_start().starts_with("-----BEGIN PUBLIC KEY-----") {
                return Err("a public key as PEM is asked for (BEGIN PUBLIC KEY)");
            }
            let read = match algorithm {
                Algorithm::RS256 => DecodingKey::from_rsa_pem(material),
                Algorithm::ES256 => DecodingKey::from_ec_pem(material),
                _ => DecodingKey::from_ed_pem(material),
            };
            read.map_err(|_| "its material is no public key of its algorithm")?
        };
        if algorithm == Algorithm::ES256 && !key.try_get_as_bytes().is_ok_and(is_p256) {
            return Err("ES256 keys are on the curve P-256");
        }
        Ok(Self { id: Some(record.id.clone()), algorithm, key })
    }

    /// A key of a published set (RFC 7517). Those that are not for signatures, or of other algorithms, are left out; so are secrets, which nobody publishes.
    pub(super) fn from_jwk(jwk: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(point) if point.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        if !fits(&jwk, algorithm) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id.map(Into::into), algorithm, key })
    }

    /// The key of XPUSH's own tokens.
    pub(super) fn of_accounts(secret: &[u8]) -> Self {
        Self { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) }
    }

    /// Whether `signature` (base64url) is this key's signature of `signed`.
    pub(super) fn verifies(&self, signed: &str, signature: &str) -> bool {
        crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm).unwrap_or(false)
    }
}

/// Whether signatures of this algorithm may be checked with a published key (RFC 7517, 4): the key decides, not the token.
pub(crate) fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let meant = common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    let signs = common.public_key_use.as_ref().is_none_or(|named| *named == PublicKeyUse::Signature);
    let operations = common.key_operations.as_ref();
    let verifies = operations.is_none_or(|named| named.contains(&KeyOperations::Verify));
    let curve = |point: &EllipticCurve, wanted| *point == wanted;
    let family = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512) => true,
        (AlgorithmParameters::RSA(_), Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512) => true,
        (AlgorithmParameters::EllipticCurve(point), Algorithm::ES256) => {
            curve(&point.curve, EllipticCurve::P256)
        }
        (AlgorithmParameters::EllipticCurve(point), Algorithm::ES384) => {
            curve(&point.curve, EllipticCurve::P384)
        }
        (AlgorithmParameters::OctetKeyPair(point), Algorithm::EdDSA) => {
            curve(&point.curve, EllipticCurve::Ed25519)
        }
        _ => false,
    };
    family && meant && signs && verifies
}

/// An uncompressed point of P-256 (SEC 1, 2.3.3).
fn is_p256(point: &[u8]) -> bool {
    point.len() == 65 && point[0] == 4
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn jwk(value: serde_json::Value) -> VerifyingKey {
        VerifyingKey::from_jwk(value).expect("a key for signatures")
    }

    /// Keys and signatures that others have made.
    #[test]
    fn the_examples_of_the_standards() {
        // RFC 7515, A.1
        let secret = base64::Engine::decode(
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        );
        let hmac = VerifyingKey::of_accounts(&secret.unwrap());
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert!(hmac.verifies(signed, signature));
        assert!(!hmac.verifies(&signed[1..], signature));
        // The last character's spare bits are not ignored.
        assert!(!hmac.verifies(signed, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl"));

        // RFC 7515, A.3
        let es256 = jwk(json!({"kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}));
        let signed = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature =
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert!(es256.algorithm == Algorithm::ES256 && es256.verifies(signed, signature));
        assert!(!es256.verifies(&signed[1..], signature));

        // RFC 8037, A.4
        let ed = jwk(json!({"kty": "OKP", "crv": "Ed25519", "kid": "k",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}));
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature =
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(ed.algorithm == Algorithm::EdDSA && ed.verifies(signed, signature));
        assert!(!ed.verifies(&signed[1..], signature));
    }

    #[test]
    fn what_is_no_key_for_signatures_is_left_out() {
        let point =
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let with = |field: &str, value: serde_json::Value| {
            let mut jwk = point.clone();
            jwk[field] = value;
            VerifyingKey::from_jwk(jwk)
        };
        assert!(with("use", json!("sig")).is_some() && with("key_ops", json!(["verify"])).is_some());
        assert!(with("alg", json!("EdDSA")).is_some());
        for (field, value) in [
            ("use", json!("enc")),
            ("key_ops", json!(["sign"])),
            ("alg", json!("RS256")),
            ("alg", json!("none")),
            ("crv", json!("X25519")),
            ("x", json!("§")),
            ("kty", json!("oct")),
        ] {
            assert!(with(field, value.clone()).is_none(), "{field} {value}");
        }
        assert!(VerifyingKey::from_jwk(json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"})).is_none());
        assert!(VerifyingKey::from_jwk(json!("key")).is_none());
    }

    #[test]
    fn unusable_keys_are_named_as_such() {
        const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let record = |algorithm: &str, material: &str| KeyRecord {
            id: "k".into(),
            algorithm: algorithm.into(),
            material: material.into(),
            created_at: 0,
        };
        let long = "0123456789abcdef0123456789abcdef";
        for (algorithm, material, good) in [
            ("HS256", long, true),
            ("HS256", &long[1..], false),
            ("HS256", PUBLIC, false),
            ("EdDSA", PUBLIC, true),
            ("RS256", PUBLIC, false),
            ("ES256", PUBLIC, false),
            ("EdDSA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", false),
            ("EdDSA", long, false),
            ("HS512", long, false),
            ("none", "", false),
            ("hs256", long, false),
        ] {
            assert_eq!(usable(&record(algorithm, material)).is_ok(), good, "{algorithm}");
        }
    }
}
