//! Requests are signed as Standard Webhooks 1.0 has it (<https://www.standardwebhooks.com>), so that receivers can use its libraries.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// With what a secret begins that is written as base64.
const PREFIX: &str = "whsec_";
/// Bytes that a secret has at least.
pub const SHORTEST: usize = 24;

/// Signs a hook's requests, by one secret or by two. Not `Debug`.
pub(crate) struct Signer(Vec<Key>);

impl Signer {
    pub(crate) fn new(secrets: &[Box<str>]) -> Self {
        Self(
            secrets
                .iter()
                .filter_map(|secret| material(secret))
                .map(|bytes| Key::new(HMAC_SHA256, &bytes))
                .collect(),
        )
    }

    /// The headers of a request: its id, when it is sent (s since 1970), and a signature by each secret.
    pub(crate) fn headers(&self, id: &str, at: u64, body: &[u8]) -> [(&'static str, String); 3] {
        let mut signed = format!("{id}.{at}.").into_bytes();
        signed.extend_from_slice(body);
        let spelled = self.0.iter().map(|key| format!("v1,{}", STANDARD.encode(sign(key, &signed))));
        let signatures = spelled.collect::<Vec<_>>().join(" ");
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", at.to_string()),
            ("webhook-signature", signatures),
        ]
    }
}

/// What a secret stands for: `whsec_` and base64, or the bytes of any other text.
fn material(secret: &str) -> Option<Vec<u8>> {
    match secret.strip_prefix(PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).ok(),
        None => Some(secret.as_bytes().to_vec()),
    }
}

/// Whether a secret is good: it has enough bytes, and is base64 if it says so.
pub fn usable(secret: &str) -> bool {
    material(secret).is_some_and(|bytes| bytes.len() >= SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_standards_example() {
        // The example of the specification's own libraries.
        let signer = Signer::new(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()]);
        let headers =
            signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(headers[2].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn both_secrets_sign_while_one_takes_the_others_place() {
        let (old, new) = ("an old secret of enough bytes", "a new secret of enough bytes!");
        let alone = |secret: &str| Signer::new(&[secret.into()]).headers("id", 7, b"{}")[2].1.clone();
        let both = Signer::new(&[new.into(), old.into()]).headers("id", 7, b"{}")[2].1.clone();
        assert_eq!(both, format!("{} {}", alone(new), alone(old)));
    }

    #[test]
    fn a_good_secret_has_enough_bytes() {
        assert!(usable("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        assert!(usable("twenty-four bytes exactly"));
        for bad in ["", "short", "whsec_", "whsec_!!!!MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ="] {
            assert!(!usable(bad), "{bad}");
        }
    }
}
