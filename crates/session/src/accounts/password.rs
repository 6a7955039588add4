//! Passwords: which ones there can be, and what is kept of them.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
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
        self.digest_in(&mut Memory::default())
    }

    /// The same in memory that is there.
    pub(crate) fn digest_in(&self, memory: &mut Memory) -> Result<Box<str>, Problem> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| Code::Internal)?;
        self.digest_with(&salt, memory).map_err(|error| {
            tracing::error!(%error, "cannot digest a password");
            Code::Internal.into()
        })
    }

    /// Whether `digest` was made of it. Without a digest it was not, which takes as long to find out.
    pub(crate) fn matches_in(&self, digest: Option<&str>, memory: &mut Memory) -> bool {
        let matches = self.has_made(digest.unwrap_or(NOBODYS), memory).is_ok_and(|made| made);
        matches && digest.is_some()
    }

    fn digest_with(&self, salt: &[u8], memory: &mut Memory) -> argon2::password_hash::Result<Box<str>> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
            .expect("these parameters are within Argon2's bounds");
        let digest = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(Salt::new(salt)?),
            hash: None,
        };
        let hash = self.computed(&digest, params, Params::DEFAULT_OUTPUT_LEN, memory)?;
        Ok(PasswordHash { hash: Some(hash), ..digest }.to_string().into())
    }

    /// By whatever parameters it was made with.
    fn has_made(&self, digest: &str, memory: &mut Memory) -> argon2::password_hash::Result<bool> {
        let digest = PasswordHash::new(digest)?;
        let Some(hash) = digest.hash else { return Ok(false) };
        // Outputs are compared in constant time.
        Ok(self.computed(&digest, Params::try_from(&digest)?, hash.len(), memory)? == hash)
    }

    /// The output of so many bytes, at most as many as an [`Output`] may have, by what a digest says of its making.
    fn computed(
        &self,
        made: &PasswordHash,
        params: Params,
        length: usize,
        memory: &mut Memory,
    ) -> argon2::password_hash::Result<Output> {
        let algorithm = Algorithm::try_from(made.algorithm.as_str())?;
        let version = made.version.map_or(Ok(Version::V0x13), Version::try_from)?;
        let blocks = memory.blocks(params.block_count());
        let mut buffer = [0; Output::MAX_LENGTH];
        let output = &mut buffer[..length];
        let salt = made.salt.as_deref().unwrap_or_default();
        let argon2 = Argon2::new(algorithm, version, params);
        argon2.hash_password_into_with_memory(self.0.as_bytes(), salt, output, blocks)?;
        Ok(Output::new(output)?)
    }
}

/// What Argon2 works in, kept from one password to the next: the system takes milliseconds to give and to take back as much, which nothing interrupts.
#[derive(Default)]
pub(crate) struct Memory(Vec<Block>);

impl Memory {
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            self.0.resize(count, Block::default());
        }
        &mut self.0[..count]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
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
        let mut memory = Memory::default();
        let mut matches = |password: &Password, digest| password.matches_in(digest, &mut memory);
        assert!(matches(&password, Some(&one)) && matches(&password, Some(&other)));
        assert!(!matches(&Password::new("correct horsf", "password").unwrap(), Some(&one)));
        assert!(!matches(&password, None));
        for nothing in ["", "plain text", "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ"] {
            assert!(!matches(&password, Some(nothing)), "{nothing}");
        }
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
        let password = Password::new("password", "password").unwrap();
        let mut memory = Memory::default();
        // Larger and smaller in turn, over what the one before has left.
        for _ in 0..2 {
            assert!(password.matches_in(Some(digest), &mut memory));
            let own = password.digest_in(&mut memory).unwrap();
            assert!(password.matches_in(Some(&own), &mut memory));
        }
    }
}
