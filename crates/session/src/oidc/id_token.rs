//! What an ID token says, when all of it is right (OpenID Connect Core 1.0, section 3.1.3.7).

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::Value;
use xpush_core::UnixMillis;
use xpush_core::ports::directory::Provider;

use crate::access::fits;

/// How far clocks may be apart, in ms.
const LEEWAY: u64 = 5_000;

/// Bytes of a token.
const LARGEST: usize = 16_384;

/// Characters of a display name.
const NAME: usize = 64;

/// Signatures that only the provider can make. By a shared secret (HS256) we could sign ourselves.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Somebody, as the provider knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) subject: Box<str>,
    pub(super) name: Option<Box<str>>,
}

/// Why a token is no proof. For whoever sent it: it names the claim, never its value.
pub(super) type Reason = &'static str;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: Value,
    iat: Value,
    nbf: Option<Value>,
    nonce: Option<String>,
    name: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Reads what names the key.
pub(super) fn header(token: &str) -> Result<Header, Reason> {
    if token.len() > LARGEST {
        return Err("is too large");
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| "is no signed JWT")?;
    if header.crit.is_some() {
        return Err("asks for an extension that is not known here");
    }
    if !ALGORITHMS.contains(&header.alg) {
        return Err("has an algorithm that is not accepted");
    }
    Ok(header)
}

/// The provider's key that a token names; when it names none, the only one that there is.
pub(super) fn key<'a>(header: &Header, keys: &'a JwkSet) -> Option<&'a Jwk> {
    let mut fitting = keys.keys.iter().filter(|key| {
        let named = header.kid.is_none() || key.common.key_id == header.kid;
        named && fits(key, header.alg)
    });
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Some(key),
        _ => None,
    }
}

/// Checks signature and claims. `nonce` is what the sign-in began with.
pub(super) fn verify(
    token: &str,
    header: &Header,
    key: &Jwk,
    provider: &Provider,
    nonce: Option<&str>,
    now: UnixMillis,
) -> Result<Identity, Reason> {
    let key = DecodingKey::from_jwk(key).map_err(|_| "is of a key that cannot be read")?;
    let mut validation = Validation::new(header.alg);
    // The claims are checked below, by our own clock.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let claims = match jsonwebtoken::decode::<Claims>(token, &key, &validation) {
        Ok(decoded) => decoded.claims,
        Err(error) => {
            return Err(match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature => "has a wrong signature",
                _ => "cannot be read, or lacks a claim",
            });
        }
    };
    claims.check(provider, nonce, now)?;
    Ok(Identity { name: claims.name.as_ref().and_then(display_name), subject: claims.sub.into() })
}

impl Claims {
    fn check(&self, provider: &Provider, nonce: Option<&str>, now: UnixMillis) -> Result<(), Reason> {
        if self.iss != *provider.issuer {
            return Err("iss: another issuer");
        }
        if self.sub.is_empty() || self.sub.len() > 255 {
            return Err("sub: must have 1 to 255 bytes");
        }
        let (for_us, only) = match &self.aud {
            Audience::One(one) => (*one == *provider.client_id, true),
            Audience::Many(many) => (many.iter().any(|one| *one == *provider.client_id), many.len() == 1),
        };
        if !for_us {
            return Err("aud: for another client");
        }
        match &self.azp {
            Some(party) if *party != *provider.client_id => return Err("azp: given to another client"),
            None if !only => return Err("azp: is missing, and aud has several"),
            _ => {}
        }
        let (expires, issued) =
            (millis(&self.exp).ok_or("exp: no number")?, millis(&self.iat).ok_or("iat: no number")?);
        if now >= expires.saturating_add(LEEWAY) {
            return Err("exp: has passed");
        }
        let begins = self.nbf.as_ref().map_or(Some(0), millis).ok_or("nbf: no number")?;
        if now.saturating_add(LEEWAY) < issued.max(begins) {
            return Err("iat: in the future");
        }
        match (nonce, &self.nonce) {
            (Some(expected), Some(given)) if expected == given => Ok(()),
            (None, None) => Ok(()),
            _ => Err("nonce: not that of this sign-in"),
        }
    }
}

/// A NumericDate (RFC 7519, section 2) in ms.
fn millis(value: &Value) -> Option<u64> {
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0 && *seconds < 1e12)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    Some((seconds * 1_000.0) as u64)
}

/// As much of the name as we show.
fn display_name(name: &Value) -> Option<Box<str>> {
    let name: String = name.as_str()?.trim().chars().filter(|c| !c.is_control()).take(NAME).collect();
    (!name.is_empty()).then(|| name.into())
}
