//! Who a connection acts as, and what it may do. A guest has capabilities too.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use xpush_core::access::Apps;
use xpush_core::message::Sender;
use xpush_core::ports::access::Credentials;
use xpush_core::ports::presence::Member;
use xpush_core::{App, AppSettings, Channel, ChannelKey, Code, Device, Entropy, Grant, Problem, Rule, User};
use xpush_wire::json;

use crate::command::fields::bad;
use crate::session::recovery::Claim;
use crate::session::sid;

/// Who, where, and with which rules. Shared by everything of a session.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) app: Arc<AppSettings>,
    pub(crate) grant: Arc<Grant>,
}

/// What a client says of itself when it connects; each is optional. Not `Debug`: it holds secrets.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) app: Option<String>,
    pub(crate) name: Option<String>,
    /// Kept by the client; makes it the same guest again.
    pub(crate) guest: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) token: Option<String>,
    /// Said by clients that follow `moved`.
    pub(crate) moves: Option<String>,
    /// What it wants to have back of a connection that broke.
    pub(crate) claim: Option<Box<Claim>>,
}

impl Claims {
    /// Takes one field; false when there is none of this name.
    pub(crate) fn set(&mut self, field: &str, value: &str) -> bool {
        let place = match field {
            "app" => &mut self.app,
            "name" => &mut self.name,
            "guest" => &mut self.guest,
            "device" => &mut self.device,
            "token" => &mut self.token,
            "moves" => &mut self.moves,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }

    /// Reads the fields that a JSON object has, over those that are there. `null` counts as absent.
    pub(crate) fn read_members<'a>(
        &mut self,
        members: impl Iterator<Item = (impl AsRef<str>, &'a str)>,
    ) -> Result<(), Problem> {
        for (field, value) in members {
            let field = field.as_ref();
            match json::string(value) {
                Some(text) => drop(self.set(field, &text)),
                None if value != "null" && Self::default().set(field, "") => {
                    return Err(bad(field, "a string"));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// What ACCESS is shown.
    pub(crate) fn credentials(self, address: IpAddr) -> Credentials {
        let Self { app, name, guest, device, token, moves: _, claim: _ } = self;
        Credentials { app, token, guest, name, device, address: Some(address) }
    }

    /// Reads the fields that a query has, over those that are there.
    pub(crate) fn read_query(&mut self, query: &str) {
        for (name, value) in xpush_wire::query::pairs(query) {
            self.set(&name, &value);
        }
    }
}

impl Identity {
    /// What a grant comes to under the apps' settings as they are now.
    pub(crate) fn of(apps: &Apps, grant: Grant) -> Result<Self, Problem> {
        let app = apps.by_name.get(&grant.app).ok_or(Code::UnknownApp)?;
        Ok(Self { app: app.clone(), grant: Arc::new(grant) })
    }

    /// Admits a guest, if the app welcomes guests.
    pub(crate) fn guest(apps: &Apps, claims: &Claims, entropy: &mut dyn Entropy) -> Result<Self, Problem> {
        let app = apps.find(claims.app.as_deref())?.clone();
        if !app.guests {
            return Err(Code::Unauthenticated.into());
        }
        let name = claims.name.as_deref().map(display_name).transpose()?;
        let device = claims.device.as_deref().map(device).transpose()?;
        let user = match claims.guest.as_deref() {
            Some(secret) if (16..=128).contains(&secret.len()) => guest_of(&app.app, secret),
            Some(_) => return Err(Problem::new(Code::BadField, "guest: 16 to 128 characters")),
            None => guest_name(entropy.word()),
        };
        let user = User::new(&user).map_err(Problem::from)?;
        Ok(Self { grant: Arc::new(guest(&app, Sender { user, name }, device)), app })
    }

    /// Admits an XPUSH 0.1 client under the user id that it gives; that is what these clients do, and why they need an app that welcomes guests.
    pub(crate) fn admit_legacy(apps: &Apps, app: &str, user: &str) -> Result<Self, Problem> {
        let app = apps.find(Some(app))?.clone();
        if !app.guests {
            return Err(Code::Unauthenticated.into());
        }
        // The prefix keeps such a name from passing for a user or a guest.
        let user = User::new(&format!("0.1:{user}"))
            .map_err(|_| Problem::new(Code::BadField, "U: 1 to 124 characters"))?;
        Ok(Self { grant: Arc::new(guest(&app, Sender { user, name: None }, None)), app })
    }

    /// The channel's key and rule. A channel that no rule covers is not to be had.
    pub(crate) fn channel(&self, name: Channel) -> Result<(ChannelKey, Arc<Rule>), Problem> {
        let rule = self.app.rules.find(&name).cloned();
        let rule =
            rule.ok_or_else(|| Problem::new(Code::Forbidden, "no rule of this app covers this channel"))?;
        Ok((ChannelKey::new(self.app.app.clone(), name), rule))
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.grant.sender
    }

    /// The user, if it has a marker wherever it goes. A guest gets one when it says that it has read something: else each visitor would leave one.
    pub(crate) fn marks(&self) -> Option<User> {
        (!self.grant.guest).then(|| self.sender().user.clone())
    }

    pub(crate) fn member(&self) -> Member {
        Member { user: self.sender().user.clone(), name: self.sender().name.clone() }
    }
}

/// What one is without a token.
fn guest(app: &AppSettings, sender: Sender, device: Option<Device>) -> Grant {
    Grant {
        app: app.app.clone(),
        sender,
        device,
        guest: true,
        roles: Vec::new(),
        capabilities: None,
        issued_at: 0,
        expires_at: None,
        login: None,
        info: None,
    }
}

fn device(id: &str) -> Result<Device, Problem> {
    Device::new(id).map_err(|_| Problem::new(Code::BadField, "device: 1 to 64 characters"))
}

fn display_name(name: &str) -> Result<Arc<str>, Problem> {
    let name = name.trim();
    let length = name.chars().count();
    if (1..=64).contains(&length) && !name.chars().any(char::is_control) {
        Ok(Arc::from(name))
    } else {
        Err(Problem::new(Code::BadField, "name: 1 to 64 characters, none of them a control character"))
    }
}

/// The same secret is the same guest; from the id nobody finds the secret.
fn guest_of(app: &App, secret: &str) -> String {
    let digest = Sha256::new().chain_update(app.as_str()).chain_update([0]).chain_update(secret).finalize();
    let word = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
    guest_name(word)
}

fn guest_name(word: u64) -> String {
    format!("g-{}", sid::spell(word))
}
