//! Against real receivers on this machine.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use xpush_core::hooks::{AppHooks, CallRecord, HookRecord, OnFailure};
use xpush_core::message::Sender;
use xpush_core::ports::message_log::{MessageLog, Range};
use xpush_core::ports::outbox::{Backlog, Claim, Dead, Settlement};
use xpush_core::{
    AppLimits, AppSettings, ClientId, Epoch, EventName, Grant, Kind, Payload, Problem, Retention, Rules, User,
};
use xpush_embedded::{MemoryLog, MemoryOutbox, OsEntropy, SystemClock};
use xpush_testkit::sample::{app, channel, draft, node};

use super::*;

const SECRET: &str = "canary-secret-of-enough-bytes";
const PATIENCE: Duration = Duration::from_secs(30);

/// What a receiver was sent.
#[derive(Clone)]
struct Got {
    headers: HeaderMap,
    body: Value,
    raw: Vec<u8>,
}

type Answer = Arc<dyn Fn(usize, &Got) -> Response + Send + Sync>;

/// A back end.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    /// Answers as it is told; a request's number is 0 for the first.
    async fn start(answer: impl Fn(usize, &Got) -> Response + Send + Sync + 'static) -> Self {
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (answer, kept): (Answer, _) = (Arc::new(answer), got.clone());
        let take = move |headers: HeaderMap, raw: Bytes| {
            let body = serde_json::from_slice(&raw).expect("JSON");
            let one = Got { headers, body, raw: raw.to_vec() };
            let mut kept = kept.lock().unwrap();
            kept.push(one.clone());
            let answer = answer(kept.len() - 1, &one);
            async move {
                if answer.status() == StatusCode::IM_A_TEAPOT {
                    std::future::pending::<()>().await;
                }
                answer
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?key=canary-key", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { url, got }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// All events that it was sent, doubles included.
    fn events(&self) -> Vec<Value> {
        let lists = self.got().into_iter().filter_map(|got| got.body.get("events").cloned());
        lists.flat_map(|list| list.as_array().unwrap().clone()).collect()
    }
}

fn hook(url: &str) -> HookRecord {
    HookRecord {
        name: "main".into(),
        url: url.into(),
        secrets: vec![SECRET.into()],
        events: HookEvent::EACH.into(),
        asks: HookAsk::EACH.into(),
        channels: Vec::new(),
        timeout_ms: 2_000,
        concurrency: 4,
        on_failure: OnFailure::Refuse,
        api: false,
    }
}

struct World {
    webhooks: Webhooks,
    outbox: Arc<dyn Outbox>,
    apps: Arc<Mutex<Arc<Apps>>>,
}

fn apps(hooks: Vec<HookRecord>, calls: Vec<CallRecord>) -> Arc<Apps> {
    let settings = AppSettings {
        app: app("demo"),
        guests: true,
        origins: Vec::new(),
        rules: Arc::new(Rules::default()),
        recovery: false,
        hooks: Arc::new(AppHooks { hooks, calls }),
        limits: AppLimits::default(),
    };
    let by_name = HashMap::from([(app("demo"), Arc::new(settings))]);
    Arc::new(Apps { by_name, default: None })
}

impl World {
    fn new(hooks: Vec<HookRecord>) -> Self {
        Self::reaching(true, hooks)
    }

    fn reaching(allow_private: bool, hooks: Vec<HookRecord>) -> Self {
        let outbox = Arc::new(MemoryOutbox::new(Arc::new(SystemClock::new())));
        Self::of(allow_private, hooks, outbox, None)
    }

    fn of(
        allow_private: bool,
        hooks: Vec<HookRecord>,
        outbox: Arc<dyn Outbox>,
        notes: Option<Arc<dyn Notes>>,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let apps = Arc::new(Mutex::new(apps(hooks, Vec::new())));
        let now = apps.clone();
        let webhooks = Webhooks::start(Parts {
            apps: Arc::new(move || now.lock().unwrap().clone()),
            outbox: outbox.clone(),
            tapped: false,
            notes,
            erasures: None,
            clock,
            entropy: Box::new(OsEntropy::new()),
            runtime: Handle::current(),
            node: node("n1"),
            allow_private,
        });
        Self { webhooks, outbox, apps }
    }

    fn publish(&self, name: &str, id: &str) {
        self.webhooks.tell(Event::Message { message: Arc::new(message(name, id)), durable: false });
    }

    async fn ask(&self, data: &str) -> Result<Option<Bytes>, Problem> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let publishing = Publishing {
            channel: channel("room:1"),
            grant: grant("ann"),
            event: EventName::new("message").unwrap(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            attachments: 0,
            edits: None,
        };
        self.webhooks.publishing(publishing, Box::new(move |result| drop(sender.send(result))));
        receiver.await.unwrap()
    }

    fn publish_durable(&self, seq: u64, attachments: Vec<Bytes>) {
        let mut message = message("room:1", &format!("m{seq}"));
        message.position = Some(Position { epoch: Epoch(1), seq });
        message.payload.attachments = attachments;
        self.webhooks.tell(Event::Message { message: Arc::new(message), durable: true });
    }

    /// How many events of a hook were counted as `outcome`.
    fn counted(&self, hook: &str, outcome: &str) -> u64 {
        let metrics = self.webhooks.add_metrics("# EOF\n".to_owned());
        let line = format!("xpush_hook_events_total{{app=\"demo\",hook=\"{hook}\",outcome=\"{outcome}\"}} ");
        let count = metrics.lines().find_map(|text| text.strip_prefix(&line));
        count.map_or(0, |count| count.parse().unwrap())
    }

    async fn backlog(&self) -> Backlog {
        port(|done| self.outbox.backlog("hook/demo/main", done)).await.unwrap()
    }
}

fn grant(user: &str) -> Arc<Grant> {
    Arc::new(Grant {
        app: app("demo"),
        sender: Sender { user: User::new(user).unwrap(), name: None },
        device: None,
        guest: false,
        roles: Vec::new(),
        capabilities: None,
        issued_at: 0,
        expires_at: None,
        login: None,
        info: None,
    })
}

fn message(name: &str, id: &str) -> Message {
    Message {
        kind: Kind::Message,
        channel: channel(name),
        position: None,
        id: ClientId::new(id).unwrap(),
        event: EventName::new("message").unwrap(),
        payload: Payload {
            json: Bytes::copy_from_slice(format!("{{\"n\":\"{id}\"}}").as_bytes()),
            attachments: Vec::new(),
        },
        from: Sender { user: User::new("ann").unwrap(), name: None },
        at: 7,
        revision: None,
    }
}

/// Waits until it is so.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waits = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waits).await.is_ok(), "{what}");
}

fn ok() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

/// The ids of messages, in the order in which they came first.
fn firsts(events: &[Value], of: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for event in events.iter().filter(|event| event["channel"] == of) {
        let id = event["message"]["id"].as_str().unwrap().to_owned();
        if !seen.contains(&id) {
            seen.push(id);
        }
    }
    seen
}

#[tokio::test]
async fn events_come_signed_in_order_and_several_at_once() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let world = World::new(vec![hook(&receiver.url)]);
    let names: Vec<String> = (0..150).map(|number| format!("m{number}")).collect();
    for name in &names {
        world.publish("room:1", name);
        world.publish("room:2", name);
    }
    until("all have come", async || receiver.events().len() == 300).await;
    let events = receiver.events();
    for of in ["room:1", "room:2"] {
        assert_eq!(firsts(&events, of), names);
    }
    let mut ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 300, "each has an id of its own");
    let got = receiver.got();
    assert!(got.len() < 100, "{} requests", got.len());
    for one in &got {
        let header = |name: &str| one.headers[name].to_str().unwrap().to_owned();
        let signed = [header("webhook-id"), header("webhook-timestamp")].join(".") + ".";
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = hmac::sign(&key, &[signed.as_bytes(), &one.raw].concat());
        assert_eq!(header("webhook-signature"), format!("v1,{}", STANDARD.encode(tag)));
        assert_eq!(
            (&one.body["app"], &one.body["hook"], &one.body["node"]),
            (&json!("demo"), &json!("main"), &json!("n1"))
        );
    }
    assert_eq!(events[0]["message"]["data"]["n"], "m0");
    until("nothing is left", async || world.backlog().await.waiting == 0).await;
}

#[tokio::test]
async fn what_fails_is_told_again_with_the_same_id_and_before_what_follows() {
    let receiver = Receiver::start(|number, _| if number < 2 { status(500) } else { ok() }).await;
    let world = World::new(vec![hook(&receiver.url)]);
    world.publish("room:1", "a");
    until("it was tried", async || !receiver.got().is_empty()).await;
    world.publish("room:1", "b");
    until("both have come", async || world.backlog().await.waiting == 0 && receiver.got().len() > 2).await;
    let events = receiver.events();
    let ids: Vec<_> =
        events.iter().filter(|event| event["message"]["id"] == "a").map(|event| &event["id"]).collect();
    assert!(ids.len() >= 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(firsts(&events, "room:1"), ["a", "b"]);
    let first_b = events.iter().position(|event| event["message"]["id"] == "b").unwrap();
    let last_a = events.iter().rposition(|event| event["message"]["id"] == "a").unwrap();
    assert!(last_a < first_b);
    let ids = receiver.got().iter().map(|got| got.headers["webhook-id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids[0], ids[1], "the same request");
}

#[tokio::test]
async fn one_that_cannot_be_taken_holds_up_nothing_for_long() {
    let poison = |got: &Got| got.body.to_string().contains("poison");
    let receiver = Receiver::start(move |_, got| if poison(got) { status(422) } else { ok() }).await;
    let world = World::new(vec![hook(&receiver.url)]);
    for id in ["a", "poison", "b"] {
        world.publish("room:1", id);
    }
    world.publish("room:2", "c");
    let dead = async || port(|done| world.outbox.dead("hook/demo/main", 9, done)).await.unwrap();
    until("it is given up", async || dead().await.len() == 1 && world.backlog().await.waiting == 0).await;
    let taken: Vec<_> = receiver.got().into_iter().filter(|got| !poison(got)).collect();
    let told = |id: &str| taken.iter().any(|got| got.body.to_string().contains(&format!("\"id\":\"{id}\"")));
    assert!(told("a") && told("b") && told("c"));
    let dead = dead().await;
    assert_eq!((&*dead[0].why, dead[0].attempts), ("answered with status 422", 3));
    assert!(
        world
            .webhooks
            .add_metrics("# EOF\n".to_owned())
            .contains(r#"xpush_hook_events_total{app="demo",hook="main",outcome="dead"} 1"#)
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let slow = Receiver::start(|_, _| status(418)).await;
    let fast = Receiver::start(|_, _| ok()).await;
    let mut other = hook(&fast.url);
    other.name = "other".into();
    let world = World::new(vec![hook(&slow.url), other]);
    for number in 0..200 {
        world.publish(&format!("room:{}", number % 7), &number.to_string());
    }
    until("the other one has all", async || fast.events().len() == 200).await;
    assert!(slow.got().len() <= 4, "no more at once than its slots");
}

#[tokio::test]
async fn a_back_end_that_is_down_is_left_alone_and_misses_nothing() {
    let down = Arc::new(AtomicUsize::new(1));
    let is_down = down.clone();
    let receiver =
        Receiver::start(move |_, _| if is_down.load(Ordering::SeqCst) == 1 { status(500) } else { ok() })
            .await;
    let world = World::new(vec![hook(&receiver.url)]);
    let open = r#"xpush_hook_breaker_open{app="demo",hook="main"} 1"#;
    for number in 0..40 {
        (0..8).for_each(|room| world.publish(&format!("room:{room}"), &format!("m{number}")));
    }
    until("it is left alone", async || world.webhooks.add_metrics("# EOF\n".to_owned()).contains(open)).await;
    assert!(receiver.got().len() < 20, "{}", receiver.got().len());
    down.store(0, Ordering::SeqCst);
    until("all have come", async || world.backlog().await.waiting == 0).await;
    let names: Vec<String> = (0..40).map(|number| format!("m{number}")).collect();
    for room in 0..8 {
        assert_eq!(firsts(&receiver.events(), &format!("room:{room}")), names);
    }
    assert!(!world.webhooks.add_metrics("# EOF\n".to_owned()).contains(open));
}

#[tokio::test]
async fn a_question_is_answered_amended_or_refused() {
    let receiver = Receiver::start(|_, got| {
        let data = got.body["ask"]["data"].as_str().unwrap_or_default();
        match data {
            "bad" => axum::Json(json!({"allow": false, "reason": "no\nswearing"})).into_response(),
            "amend" => r#"{"allow":true,"data":{"b":1,"a":12345678901234567890123}}"#.into_response(),
            _ => axum::Json(json!({"allow": true})).into_response(),
        }
    })
    .await;
    let world = World::new(vec![hook(&receiver.url)]);
    assert_eq!(world.ask("\"good\"").await, Ok(None));
    let amended = world.ask("\"amend\"").await.unwrap().unwrap();
    assert_eq!(amended, r#"{"b":1,"a":12345678901234567890123}"#, "as it came");
    let refused = world.ask("\"bad\"").await.unwrap_err();
    assert_eq!((refused.code, refused.message()), (Code::Forbidden, "noswearing"));
    let asked = &receiver.got()[0].body["ask"];
    assert_eq!(
        (&asked["type"], &asked["channel"], &asked["user"]),
        (&json!("publish"), &json!("room:1"), &json!("ann"))
    );
}

#[tokio::test]
async fn whatever_a_back_end_does_a_question_ends_as_the_app_has_said() {
    let inner = Receiver::start(|_, _| axum::Json(json!({"allow": true})).into_response()).await;
    let elsewhere = inner.url.clone();
    // Far more than fits on the way: whoever reads on would be seen to.
    let endless = || Body::from(vec![b' '; 64 << 20]).into_response();
    let receiver =
        Receiver::start(move |_, got| match got.body["ask"]["data"].as_str().unwrap_or_default() {
            "hang" => status(418),
            "endless" => endless(),
            "redirect" => Redirect::temporary(&elsewhere).into_response(),
            "garbage" => "<html>".into_response(),
            "silent" => ok(),
            "list" => "[]".into_response(),
            "twice" => r#"{"allow":false,"allow":true}"#.into_response(),
            "word" => r#"{"allow":"true"}"#.into_response(),
            _ => status(500),
        })
        .await;
    for (on_failure, name) in [(OnFailure::Refuse, "closed"), (OnFailure::Allow, "open")] {
        for data in ["hang", "endless", "redirect", "garbage", "silent", "list", "twice", "word", "500"] {
            let hook =
                HookRecord { on_failure, timeout_ms: 1_500, events: Vec::new(), ..hook(&receiver.url) };
            // A new one each time: its breaker is closed.
            let world = World::new(vec![hook]);
            let result = world.ask(&format!("\"{data}\"")).await.map_err(|problem| problem.code);
            let expected = if on_failure == OnFailure::Allow { Ok(None) } else { Err(Code::Unavailable) };
            assert_eq!(result, expected, "{data}, fails {name}");
        }
    }
    assert!(inner.got().is_empty(), "a redirect is not followed");
}

#[tokio::test]
async fn after_failures_in_a_row_it_is_not_asked_for_a_while() {
    let receiver = Receiver::start(|_, _| status(500)).await;
    let world = World::new(vec![hook(&receiver.url)]);
    for _ in 0..50 {
        assert!(world.ask("1").await.is_err());
    }
    assert!(receiver.got().len() <= 6, "{}", receiver.got().len());
}

#[tokio::test]
async fn private_addresses_are_out_of_reach_unless_the_server_says_so() {
    let receiver = Receiver::start(|_, _| axum::Json(json!({"allow": true})).into_response()).await;
    let world = World::reaching(false, vec![hook(&receiver.url)]);
    assert_eq!(world.ask("1").await.map_err(|problem| problem.code), Err(Code::Unavailable));
    world.publish("room:1", "a");
    until("it waits", async || world.backlog().await.waiting == 1).await;
    assert!(receiver.got().is_empty());
}

#[tokio::test]
async fn what_an_app_changes_holds_soon() {
    let receiver = Receiver::start(|_, _| ok()).await;
    let world = World::new(Vec::new());
    world.publish("room:1", "nobody wants it");
    assert!(!world.webhooks.asks(&app("demo"), Ask::Publish, None));
    let only = HookRecord { channels: vec!["room:*".into()], ..hook(&receiver.url) };
    let call =
        CallRecord { event: "chat message".into(), channel: "chat:lobby".into(), echo: false, join: true };
    *world.apps.lock().unwrap() = apps(vec![only], vec![call]);
    let asks = |of: &str| world.webhooks.asks(&app("demo"), Ask::Publish, Some(&channel(of).name));
    until("it is known", async || asks("room:1")).await;
    assert!(!asks("other") && !asks("$presence"));
    world.publish("other", "b");
    world.publish("room:1", "c");
    until("it has come", async || receiver.events().len() == 1).await;
    assert_eq!(receiver.events()[0]["channel"], "room:1");
    let lobby = channel("chat:lobby").name;
    let route = |name: &str| world.webhooks.route(&app("demo"), name);
    assert_eq!(route("chat message"), Some(Route::Publish { channel: lobby.clone(), echo: false }));
    assert_eq!((route("other"), world.webhooks.joined(&app("demo"))), (Some(Route::Call), vec![lobby]));
    assert_eq!(world.webhooks.route(&app("none"), "chat message"), None);
    *world.apps.lock().unwrap() = apps(Vec::new(), Vec::new());
    until("it is forgotten", async || !asks("room:1")).await;
}

/// Two hooks, over an outbox that takes nothing into the queue of `other`, and a log that notes what is to be told of.
struct Narrow {
    inner: MemoryOutbox,
    /// Why; and whether that queue is full.
    refuses: (Failure, bool),
    puts: AtomicUsize,
    told: Mutex<Vec<u64>>,
}

const OTHER: &str = "hook/demo/other";

impl Narrow {
    fn world(refuses: Failure, is_full: bool) -> (World, Arc<Self>) {
        let inner = MemoryOutbox::new(Arc::new(SystemClock::new()));
        let refuses = (refuses, is_full);
        let narrow = Arc::new(Self { inner, refuses, puts: AtomicUsize::new(0), told: Mutex::default() });
        // What waits for hooks stays there.
        let main = hook("http://127.0.0.1:1/");
        let other = HookRecord { name: "other".into(), ..main.clone() };
        (World::of(false, vec![main, other], narrow.clone(), Some(narrow.clone())), narrow)
    }

    fn told(&self) -> Vec<u64> {
        self.told.lock().unwrap().clone()
    }
}

impl Outbox for Narrow {
    fn put(&self, items: Vec<Item>, done: Done<()>) {
        self.puts.fetch_add(1, Ordering::SeqCst);
        if items.iter().any(|item| &*item.queue == OTHER) {
            return done(Err(PortError::new(self.refuses.0, "narrow")));
        }
        self.inner.put(items, done);
    }

    fn claim(&self, queue: &str, keys: usize, items: usize, lease_ms: u64, done: Done<Vec<Claim>>) {
        self.inner.claim(queue, keys, items, lease_ms, done);
    }

    fn settle(&self, queue: &str, settlements: Vec<Settlement>, done: Done<usize>) {
        self.inner.settle(queue, settlements, done);
    }

    fn backlog(&self, queue: &str, done: Done<Backlog>) {
        if queue == OTHER && self.refuses.1 {
            return done(Ok(Backlog { waiting: MOST_WAITING, oldest: None }));
        }
        self.inner.backlog(queue, done);
    }

    fn dead(&self, queue: &str, limit: usize, done: Done<Vec<Dead>>) {
        self.inner.dead(queue, limit, done);
    }
}

impl Notes for Narrow {
    fn untold(&self, _: usize, done: Done<Vec<Arc<Message>>>) {
        done(Ok(Vec::new()));
    }

    fn told(&self, messages: Vec<(ChannelKey, Position)>) {
        self.told.lock().unwrap().extend(messages.into_iter().map(|(_, position)| position.seq));
    }
}

#[tokio::test]
async fn what_a_full_queue_does_not_take_is_lost_to_it_alone_and_told_of() {
    let (world, narrow) = Narrow::world(Failure::Full, true);
    (1..=300).for_each(|seq| world.publish_durable(seq, Vec::new()));
    until("all is told of", async || narrow.told().len() == 300).await;
    assert!(narrow.told().is_sorted());
    assert_eq!(world.backlog().await.waiting, 300);
    assert_eq!((world.counted("main", "queued"), world.counted("main", "lost")), (300, 0));
    assert_eq!((world.counted("other", "queued"), world.counted("other", "lost")), (0, 300));
    let puts = narrow.puts.load(Ordering::SeqCst);
    assert!(puts < 30, "a queue's go together: {puts}");
}

#[tokio::test]
async fn what_cannot_be_put_at_the_moment_is_not_told_of_and_not_lost() {
    for refuses in [Failure::NotApplied, Failure::Overloaded, Failure::Full] {
        // A disk that is full says so, too.
        let (world, narrow) = Narrow::world(refuses, false);
        world.publish_durable(1, Vec::new());
        world.publish("room:1", "gone");
        until("what is not noted is lost", async || world.counted("other", "lost") == 1).await;
        world.webhooks.flush(PATIENCE).await;
        assert_eq!(world.backlog().await.waiting, 2, "{refuses:?}");
        assert!(narrow.told().is_empty(), "{refuses:?}");
        assert_eq!((world.counted("main", "queued"), world.counted("other", "lost")), (2, 1), "{refuses:?}");
    }
}

#[tokio::test]
async fn what_is_too_long_for_the_outbox_takes_nothing_with_it() {
    let narrow = Narrow::world(Failure::Full, true).1;
    let main = hook("http://127.0.0.1:1/");
    let world = World::of(false, vec![main], narrow.clone(), Some(narrow.clone()));
    world.publish_durable(1, vec![Bytes::from(vec![0; 13 << 20])]);
    world.publish_durable(2, Vec::new());
    until("both are told of", async || narrow.told() == [1, 2]).await;
    assert_eq!((world.counted("main", "queued"), world.counted("main", "lost")), (1, 1));
}

#[tokio::test]
async fn what_a_log_puts_itself_is_counted_as_it_says() {
    let world = World::new(vec![hook("http://127.0.0.1:1/")]);
    let message = message("room:1", "a");
    for put in [true, true, false] {
        let work = Tap::work(&world.webhooks, &message);
        assert_eq!(work.len(), 1);
        world.webhooks.became(&message.channel, &work[0], put);
    }
    assert_eq!((world.counted("main", "queued"), world.counted("main", "lost")), (2, 1));
}

#[tokio::test]
async fn whoever_was_erased_elsewhere_is_erased_from_what_waits_here() {
    let log = || Arc::new(MemoryLog::new(1, 1 << 20, Arc::new(SystemClock::new())));
    let (shared, own) = (log(), log());
    let (app, ann) = (app("demo"), User::new("ann").unwrap());
    let key = channel("room:1");
    port(|done| own.append(&key, Retention::ENDLESS, vec![draft("ann", "1")], done)).await.unwrap();
    let from = async || {
        let page = port(|done| own.read(&key, Range::After(0), 9, done)).await.unwrap();
        page.messages[0].from.user.to_string()
    };
    let erasures = Erasures { shared: shared.clone(), own: own.clone() };
    port(|done| shared.begin(&app, &ann, 7, done)).await.unwrap();
    for _ in 0..2 {
        erasures.follow().await.unwrap();
        assert_eq!(port(|done| own.pending(done)).await.unwrap().len(), 1);
        assert_eq!(from().await, "ann", "something may still come");
    }
    port(|done| shared.end(&app, &ann, done)).await.unwrap();
    erasures.follow().await.unwrap();
    assert_eq!(from().await, "$erased");
    assert_eq!(port(|done| own.pending(done)).await, Ok(Vec::new()));
}

#[tokio::test]
async fn secrets_are_in_no_log() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let made = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || made.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let receiver =
        Receiver::start(|number, _| if number % 2 == 0 { status(500) } else { "<html>".into_response() })
            .await;
    let nobody = HookRecord { name: "nobody".into(), ..hook("http://127.0.0.1:1/?key=canary-key") };
    let world = World::new(vec![hook(&receiver.url), nobody]);
    let _blocked = World::reaching(false, vec![hook(&receiver.url)]);
    world.publish("room:1", "a");
    for _ in 0..8 {
        let _ = world.ask("\"canary-data\"").await;
    }
    until("it was tried", async || receiver.got().len() > 2).await;
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(text.contains("left alone"), "something is logged: {text}");
    let ours = text.lines().filter(|line| line.contains("xpush"));
    for line in ours {
        assert!(!line.contains("canary"), "{line}");
    }
    assert!(!format!("{:?}", hook(&receiver.url)).contains("canary"));
}
