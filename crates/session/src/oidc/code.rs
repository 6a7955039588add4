//! One-time codes: a page that somebody is returned to with one exchanges it for a login.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xpush_core::{App, Clock, Code, Monotonic, User};

/// How long a code holds, in ms.
const LIFETIME: u64 = 60_000;

/// Codes that nobody has exchanged yet; more sign-ins than that in a minute are refused.
const MOST: usize = 10_000;

/// Codes that are good now. In memory: a page is returned to the server that it left from.
pub(crate) struct Codes {
    clock: Arc<dyn Clock>,
    good: Mutex<HashMap<Box<str>, Issued>>,
}

struct Issued {
    app: App,
    user: User,
    until: Monotonic,
}

impl Codes {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, good: Mutex::default() }
    }

    /// A code for a login of this user.
    pub(super) fn issue(&self, app: App, user: User) -> Result<Box<str>, Code> {
        let mut code = [0; 32];
        getrandom::fill(&mut code).map_err(|_| Code::Internal)?;
        let code: Box<str> = URL_SAFE_NO_PAD.encode(code).into();
        let now = self.clock.monotonic();
        let mut good = self.good.lock().unwrap_or_else(|broken| broken.into_inner());
        if good.len() >= MOST {
            good.retain(|_, issued| issued.until > now);
        }
        if good.len() >= MOST {
            return Err(Code::Overloaded);
        }
        good.insert(code.clone(), Issued { app, user, until: now.after(LIFETIME) });
        Ok(code)
    }

    /// Whose code it is; it is good for one time.
    pub(super) fn redeem(&self, code: &str) -> Option<(App, User)> {
        let now = self.clock.monotonic();
        let issued = self.good.lock().unwrap_or_else(|broken| broken.into_inner()).remove(code)?;
        (issued.until > now).then_some((issued.app, issued.user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpush_testkit::ManualClock;

    #[test]
    fn a_code_is_good_once_and_for_a_minute() {
        let clock = Arc::new(ManualClock::new());
        let codes = Codes::new(clock.clone());
        let issue = || codes.issue(App::new("demo").unwrap(), User::new("ann").unwrap()).unwrap();
        let (one, other) = (issue(), issue());
        assert_ne!(one, other);
        assert_eq!(codes.redeem(&one).unwrap().1.as_str(), "ann");
        assert!(codes.redeem(&one).is_none() && codes.redeem("").is_none());
        clock.advance(LIFETIME);
        assert!(codes.redeem(&other).is_none());
    }
}
