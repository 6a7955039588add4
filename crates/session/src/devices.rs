//! A user's devices: which there are, what they are called, where to push to, and logging one out.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};
use xpush_core::ports::PortError;
use xpush_core::ports::directory::{DeviceRecord, Directory, Entry, Key, Listing, Record};
use xpush_core::{App, Code, Device, Problem, UnixMillis, User};

use crate::api::openapi::schema;
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Bearer, Fields, Refusal, Segment, ok};
use crate::store::Store;

/// How exactly it is known when a device was last there, in ms.
const HOUR: u64 = 3_600_000;

/// Devices of one user.
const MOST: usize = 100;

/// Characters of a device's name and of a platform.
const LONGEST: usize = 64;

/// Bytes of a push token: those of the known services have some hundred.
const LONGEST_TOKEN: usize = 4_096;

/// A device, as whoever signs in on it describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) id: Device,
    name: Option<Box<str>>,
    platform: Option<Box<str>>,
}

impl Described {
    /// The field `device`.
    pub(crate) fn field() -> schema::Field {
        let or_null = schema::nullable;
        let fields = [
            ("id", schema::of("Device"), true),
            ("name", or_null(schema::of("Name")), false),
            ("platform", or_null(platform_field()), false),
        ];
        ("device", schema::object(&fields), false)
    }

    /// The field `device`, if it is given.
    pub(crate) fn read(fields: &Fields) -> Result<Option<Self>, Problem> {
        let Some(device) = fields.object("device")? else { return Ok(None) };
        Ok(Some(Self { id: device.device("id")?, name: device.name("name")?, platform: platform(&device)? }))
    }
}

pub(crate) fn routes() -> Routes {
    let own = |operation: Operation| operation.tag("me").user();
    let of_own = |operation: Operation| own(operation).ok(schema::of("OwnDevice"));
    let all = Operation::get("/me/devices", "listOwnDevices", "One's devices");
    let name = Operation::patch("/me/devices/{id}", "renameDevice", "What one calls a device");
    let leave = Operation::delete("/me/devices/{id}", "logDeviceOut", "Log one of one's devices out");
    let push = Operation::put("/me/devices/{id}/push", "pushHere", "Where to push to");
    let no_push = Operation::delete("/me/devices/{id}/push", "pushNoMore", "Push there no more");
    let push_fields =
        [("platform", platform_field(), true), ("token", schema::printable(LONGEST_TOKEN), true)];
    Routes::new()
        .on(own(all).ok(schema::object(&[("devices", schema::array(schema::of("OwnDevice")), true)])), list)
        .on(of_own(name).body(schema::request(&[("name", schema::of("Name"), true)])), rename)
        .on(own(leave).ok(schema::object(&[])), revoke)
        .on(of_own(push).body(schema::request(&push_fields)), push_here)
        .on(of_own(no_push), push_no_more)
}

fn platform_field() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[A-Za-z0-9._-]+$"})
}

/// Notes that a device is there: at most one write an hour. To be called for each connection that names its device, and is no guest's.
pub async fn seen(
    directory: Arc<dyn Directory>,
    app: &App,
    user: &User,
    device: &Device,
    now: UnixMillis,
) -> Result<(), PortError> {
    let described = Described { id: device.clone(), name: None, platform: None };
    note(&Store::new(directory), app, user, &described, now, HOUR).await
}

/// Whether it was noted within the hour that this device was there.
pub(crate) fn was_noted(device: &DeviceRecord, now: UnixMillis) -> bool {
    now.saturating_sub(device.seen_at) < HOUR && is_listed(device)
}

/// Notes that somebody has signed in on a device.
pub(crate) async fn signed_in(
    api: &Api,
    app: &App,
    user: &User,
    device: &Described,
) -> Result<(), PortError> {
    note(&api.store, app, user, device, api.parts.clock.wall(), 0).await
}

async fn note(
    store: &Store,
    app: &App,
    user: &User,
    device: &Described,
    now: UnixMillis,
    exactness: u64,
) -> Result<(), PortError> {
    let key = Key::Device(app.clone(), user.clone(), device.id.clone());
    if store.get(&key).await?.is_none() {
        make_room(store, app, user).await?;
    }
    store
        .change(&key, |record| {
            let known = device_record(record);
            let mut seen =
                known.cloned().unwrap_or_else(|| DeviceRecord { created_at: now, ..DeviceRecord::default() });
            // Behind a revocation, so that it is listed again.
            seen.seen_at = now.max(seen.tokens_valid_from + 1);
            // What the user has called it wins over what the app calls it.
            seen.name = seen.name.or_else(|| device.name.clone());
            seen.platform = device.platform.clone().or(seen.platform);
            let same = known.is_some_and(|known| {
                let recent = now.saturating_sub(known.seen_at) < exactness && is_listed(known);
                recent && (&known.name, &known.platform) == (&seen.name, &seen.platform)
            });
            (!same).then(|| Record::Device(Box::new(seen)))
        })
        .await?;
    Ok(())
}

/// With too many, the one that was not seen for the longest time goes; one that was logged out only when there is no other, as its tokens would be good again.
async fn make_room(store: &Store, app: &App, user: &User) -> Result<(), PortError> {
    let mut devices = store.all(&Listing::Devices(app.clone(), user.clone())).await?;
    devices.sort_by_key(|entry| {
        device_record(Some(&entry.record)).map(|device| (device.tokens_valid_from > 0, device.seen_at))
    });
    let excess = (devices.len() + 1).saturating_sub(MOST);
    for entry in devices.into_iter().take(excess) {
        store.remove(entry.key).await?;
    }
    Ok(())
}

/// `GET /me/devices`
async fn list(State(api): State<Arc<Api>>, Bearer(grant): Bearer) -> Answer {
    let listing = Listing::Devices(grant.app.clone(), grant.sender.user.clone());
    let entries = api.store.all(&listing).await?;
    let current = |mut device: Value| {
        device["current"] = grant.device.as_ref().is_some_and(|id| device["id"] == id.as_str()).into();
        device
    };
    let devices: Vec<Value> = entries.iter().filter_map(shown).map(current).collect();
    ok(json!({ "devices": devices }))
}

/// A user's devices, as its app's back end sees them.
pub(crate) async fn of(api: &Api, app: &App, user: &User) -> Result<Vec<Value>, PortError> {
    let entries = api.store.all(&Listing::Devices(app.clone(), user.clone())).await?;
    Ok(entries.iter().filter_map(shown).collect())
}

/// `PATCH /me/devices/{id}`: what the user calls it.
async fn rename(State(api): State<Arc<Api>>, Bearer(grant): Bearer, path: Segment, fields: Fields) -> Answer {
    let name = fields.name("name")?.ok_or_else(|| Problem::new(Code::BadField, "name: is missing"))?;
    change(&api, &grant, &path, |device| device.name = Some(name.clone())).await
}

/// `DELETE /me/devices/{id}`: "log out that phone". What it was granted is void from now on; it may sign in again.
async fn revoke(State(api): State<Arc<Api>>, Bearer(grant): Bearer, path: Segment) -> Answer {
    let id = path.named("device", Device::new)?;
    log_out(&api, &grant.app, &grant.sender.user, &id).await?;
    ok(json!({}))
}

/// Makes void what a device was granted until now.
pub(crate) async fn log_out(api: &Api, app: &App, user: &User, id: &Device) -> Result<(), PortError> {
    let now = api.parts.clock.wall();
    // Even when it was never noted: a token may name it.
    let key = Key::Device(app.clone(), user.clone(), id.clone());
    if api.store.get(&key).await?.is_none() {
        make_room(&api.store, app, user).await?;
    }
    api.store
        .change(&key, |record| {
            let known = device_record(record).cloned();
            let mut device =
                known.unwrap_or_else(|| DeviceRecord { created_at: now, ..DeviceRecord::default() });
            device.tokens_valid_from = now.max(device.seen_at);
            device.push_token = None;
            Some(Record::Device(Box::new(device)))
        })
        .await?;
    for entry in api.store.all(&Listing::Logins(app.clone(), user.clone())).await? {
        if matches!(&entry.record, Record::Login(login) if login.device.as_ref() == Some(id)) {
            api.store.remove(entry.key).await?;
        }
    }
    tracing::info!(%app, %user, "logged a device out");
    Ok(())
}

/// `PUT /me/devices/{id}/push`: where to push to.
async fn push_here(
    State(api): State<Arc<Api>>,
    Bearer(grant): Bearer,
    path: Segment,
    fields: Fields,
) -> Answer {
    let wrong = |what: &str| Problem::new(Code::BadField, what);
    let platform = platform(&fields)?.ok_or_else(|| wrong("platform: is missing"))?;
    let token: Box<str> = fields.needed("token")?.into();
    if token.is_empty() || token.len() > LONGEST_TOKEN || token.chars().any(char::is_control) {
        return Err(wrong("token: must have 1 to 4096 bytes, without control characters").into());
    }
    change(&api, &grant, &path, |device| {
        device.platform = Some(platform.clone());
        device.push_token = Some(token.clone());
    })
    .await
}

/// `DELETE /me/devices/{id}/push`
async fn push_no_more(State(api): State<Arc<Api>>, Bearer(grant): Bearer, path: Segment) -> Answer {
    change(&api, &grant, &path, |device| device.push_token = None).await
}

/// Changes a device that is listed.
async fn change(
    api: &Api,
    grant: &xpush_core::Grant,
    path: &Segment,
    edit: impl Fn(&mut DeviceRecord),
) -> Answer {
    let id = path.named("device", Device::new)?;
    let key = Key::Device(grant.app.clone(), grant.sender.user.clone(), id);
    let changed = api
        .store
        .change(&key, |record| {
            let mut device = device_record(record).filter(|device| is_listed(device))?.clone();
            edit(&mut device);
            Some(Record::Device(Box::new(device)))
        })
        .await?;
    if !changed {
        return Err(Code::NotFound.into());
    }
    let entry = api.store.get(&key).await?.ok_or(Code::NotFound)?;
    let mut device = shown(&entry).ok_or(Refusal::from(Code::NotFound))?;
    device["current"] = grant.device.as_ref().is_some_and(|id| device["id"] == id.as_str()).into();
    ok(device)
}

/// A device as its user sees it. The push token is the push service's affair.
fn shown(entry: &Entry) -> Option<Value> {
    let (Key::Device(_, _, id), Record::Device(device)) = (&entry.key, &entry.record) else { return None };
    is_listed(device).then(|| {
        json!({
            "id": id,
            "name": device.name,
            "platform": device.platform,
            "push": device.push_token.is_some(),
            "created_at": device.created_at,
            "seen_at": device.seen_at,
        })
    })
}

/// One that was logged out is only remembered, until somebody signs in on it again.
fn is_listed(device: &DeviceRecord) -> bool {
    device.tokens_valid_from == 0 || device.seen_at > device.tokens_valid_from
}

fn device_record(record: Option<&Record>) -> Option<&DeviceRecord> {
    match record {
        Some(Record::Device(device)) => Some(device),
        _ => None,
    }
}

fn platform(fields: &Fields) -> Result<Option<Box<str>>, Problem> {
    let Some(platform) = fields.text("platform")? else { return Ok(None) };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if platform.is_empty() || platform.len() > LONGEST || !platform.bytes().all(good) {
        return Err(Problem::new(Code::BadField, "platform: 1 to 64 of a-z A-Z 0-9 - _ ."));
    }
    Ok(Some(platform.into()))
}
