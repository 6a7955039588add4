//! Passwords: which ones there can be, and what is kept of them.

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use xpush_core::{Code, Problem};

/// Characters of a password, at least.
pub const SHORTEST: usize = 8;

/// Characters of a password, at most.
pub const LONGEST: usize = 256;

/// Bytes of a password, at most.
pub const LONGEST_BYTES: usize = 1_024;

/// What OWASP's Password Storage Cheat Sheet gives as the least for Argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The digest of no password, at the same cost as any other: who does not exist is compared with it.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$eHB1c2gtbm9ib2R5LTAwMQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A password that is neither too short nor too long. Not `Debug`.
#[derive(Clone)]
pub struct Password(Box<str>);

impl Password {
    /// Checks its length; `field` is what a refusal calls it.
    pub fn new(text: &str, field: &str) -> Result<Self, Problem> {
        let characters = text.chars().take(LONGEST + 1).count();
        if text.len() > LONGEST_BYTES || !(SHORTEST..=LONGEST).contains(&characters) {
            let detail = format!(
                "{field}: must have {SHORTEST} to {LONGEST} characters and at most {LONGEST_BYTES} bytes"
            );
            return Err(Problem::new(Code::BadField, detail));
        }
        Ok(Self(text.into()))
    }

    /// What is kept of it: Argon2id under a new salt, as a PHC string. Takes 19 MiB and tens of milliseconds of one core: not for a thread that others
    /// wait for.
    pub fn digest(&self) -> Result<Box<str>, Problem> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| Code::Internal)?;
        match argon2().hash_password_with_salt(self.0.as_bytes(), &salt) {
            Ok(digest) => Ok(digest.to_string().into()),
            Err(error) => {
                tracing::error!(%error, "cannot digest a password");
                Err(Code::Internal.into())
            }
        }
    }

    /// Whether `digest` was made of it. Without a digest it was not, which takes as long to find out.
    pub fn matches(&self, digest: Option<&str>) -> bool {
        let matches = argon2().verify_password(self.0.as_bytes(), digest.unwrap_or(NOBODYS)).is_ok();
        matches && digest.is_some()
    }
}

fn argon2() -> Argon2<'static> {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).expect("these parameters are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        Password::new(text, "password").is_err_and(|problem| problem.code == Code::BadField)
    }

    #[test]
    fn length_is_counted_in_characters_and_in_bytes() {
        for bad in
            ["", "1234567", "방방방방방방방", &"x".repeat(257), &"x".repeat(1 << 20), &"방".repeat(342)]
        {
            assert!(refused(bad), "{} characters", bad.chars().count());
        }
        for good in ["12345678", "방방방방방방방방", &"x".repeat(256), &"🔑".repeat(256), "  spaces  "]
        {
            assert!(!refused(good), "{good:?}");
        }
    }

    #[test]
    fn a_digest_matches_its_password_alone_and_says_what_it_cost() {
        let password = Password::new("correct horse", "password").unwrap();
        let (one, other) = (password.digest().unwrap(), password.digest().unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other, "each has its own salt");
        assert!(password.matches(Some(&one)) && password.matches(Some(&other)));
        assert!(!Password::new("correct horsf", "password").unwrap().matches(Some(&one)));
        assert!(!password.matches(None));
        assert!(!password.matches(Some("")) && !password.matches(Some("plain text")));
    }

    #[test]
    fn nobodys_digest_costs_what_a_digest_costs() {
        let digest = Password::new("12345678", "password").unwrap().digest().unwrap();
        let cost = |digest: &str| digest.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        let lengths = |digest: &str| digest.split('$').skip(4).map(str::len).collect::<Vec<_>>();
        assert_eq!((cost(NOBODYS), lengths(NOBODYS)), (cost(&digest), lengths(&digest)));
        let parsed = argon2::password_hash::phc::PasswordHash::new(NOBODYS).unwrap();
        assert!(parsed.salt.is_some() && parsed.hash.is_some(), "so that it is really computed");
    }

    #[test]
    fn a_known_digest_by_the_reference_implementation() {
        // echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32, from the reference implementation's tests
        let digest = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Password::new("password", "password").unwrap().matches(Some(digest)));
    }
}
