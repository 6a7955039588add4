//! What every [`Search`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use xpush_core::access::{AppLimits, AppSettings, Apps};
use xpush_core::ports::erasure::Erasure;
use xpush_core::ports::message_log::{Draft, MessageLog};
use xpush_core::ports::search::{Found, Places, Search, Wanted};
use xpush_core::search::Query;
use xpush_core::{ChannelKey, History, Kind, Permissions, Retention, Rule, Rules, Who};

use crate::sample::{app, channel, channel_of, draft_with, user};
use crate::service::wait_until;
use crate::suite::{answer, ends};

/// A new, empty store. Its apps `demo` and `other` have channels `chat:*`, which are searched.
pub struct SearchStore {
    /// What finds.
    pub search: Arc<dyn Search>,
    /// The messages that are found.
    pub log: Arc<dyn MessageLog>,
    /// What takes users out of them.
    pub erasure: Arc<dyn Erasure>,
    /// Gives the apps other rules.
    pub rule: Box<dyn Fn(Arc<Apps>)>,
    /// What must live as long as the store.
    pub keeps: Box<dyn Any>,
}

/// Makes each property of a [`Search`] a test; `$fixture` is a function that gives a [`SearchStore`].
#[macro_export]
macro_rules! search_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, search:
            what_was_said_is_found_where_it_was_said
            the_newest_come_first_and_page_by_page
            apps_are_apart
            all_channels_of_an_app_can_be_searched
            every_script_is_found
            senders_and_dates_are_filters
            an_edited_message_is_found_by_its_new_words_alone
            what_was_deleted_is_not_found_from_then_on
            what_retention_took_is_not_found
            what_was_erased_is_not_found
            what_no_rule_searches_is_not_found
            channels_that_are_searched_from_now_on_are_found_whole
            candidates_that_are_no_hits_do_not_end_the_search
            no_text_makes_it_fail
            done_may_search_again
        );
    };
}

/// Keeps whatever the suite writes.
const ROOMY: Retention = Retention { count: 100_000, bytes: 1 << 30, age_ms: u64::MAX };

/// When the first message of a test is published: 2026-01-01.
const START: u64 = 1_767_225_600_000;

impl SearchStore {
    /// Both apps, where `searched` says of a pattern whether it is.
    pub fn apps(searched: bool) -> Arc<Apps> {
        let rule = |pattern: &str, search| Rule {
            pattern: pattern.into(),
            history: History::Durable(ROOMY),
            presence: false,
            notify: false,
            search,
            permissions: Permissions::all(Who::Anyone),
        };
        let settings = |name: &str| AppSettings {
            app: app(name),
            guests: true,
            origins: Vec::new(),
            rules: Arc::new(Rules::new([rule("chat:*", searched), rule("@*", true), rule("*", false)])),
            recovery: false,
            hooks: Arc::default(),
            limits: AppLimits::default(),
        };
        let by_name: HashMap<_, _> =
            ["demo", "other"].map(|name| (app(name), Arc::new(settings(name)))).into_iter().collect();
        Arc::new(Apps { by_name, default: None })
    }

    fn append(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>) -> Vec<u64> {
        let appended = answer(|done| self.log.append(channel, retention, drafts, done)).expect("an answer");
        assert_eq!(appended.failure, None);
        appended.taken.into_iter().map(|taken| taken.expect("takes a place").message.seq()).collect()
    }

    /// Publishes texts, one second apart; the ids are their numbers.
    fn say(&self, channel: &ChannelKey, from: &str, texts: &[&str]) -> Vec<u64> {
        let draft = |(number, text): (usize, &&str)| Draft {
            at: START + 1_000 * number as u64,
            ..draft_with(
                from,
                &format!("{from}-{number}-{text}")[..].chars().take(16).collect::<String>(),
                &data(text),
            )
        };
        self.append(channel, ROOMY, texts.iter().enumerate().map(draft).collect())
    }

    fn change(&self, channel: &ChannelKey, from: &str, kind: Kind, text: &str) {
        let id = format!("{kind:?}").chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        self.append(
            channel,
            ROOMY,
            vec![Draft { kind, moderates: true, ..draft_with(from, &id, &data(text)) }],
        );
    }

    fn page(&self, wanted: Wanted) -> Found {
        answer(|done| self.search.search(wanted, done)).expect("an answer")
    }

    /// The excerpts of all pages, their pieces joined; the newest first.
    fn find(&self, places: Places, query: &str) -> Vec<String> {
        let query = Query::parse(query).expect("a query");
        let mut wanted = Wanted { app: app("demo"), places, query, before: None, limit: 100 };
        let mut found = Vec::new();
        loop {
            let page = self.page(wanted.clone());
            found.extend(page.hits.iter().map(|hit| hit.excerpt.concat()));
            wanted.before = page.before;
            if page.before.is_none() {
                return found;
            }
        }
    }

    fn lobby(&self, query: &str) -> Vec<String> {
        self.find(these(&["chat:lobby"]), query)
    }

    /// Waits until as many are found in the lobby.
    fn wait_for(&self, query: &str, count: usize) {
        wait_until(&format!("{query} is found {count} times"), || self.lobby(query).len() == count);
    }
}

fn data(text: &str) -> String {
    format!("{{\"kind\":\"text\",\"lines\":[{text:?}]}}")
}

fn these(channels: &[&str]) -> Places {
    Places::These(channels.iter().map(|name| channel(name).name).collect())
}

pub fn what_was_said_is_found_where_it_was_said(store: &SearchStore) {
    store.say(&channel("chat:lobby"), "ann", &["Hello there", "good bye"]);
    store.say(&channel("chat:other"), "ann", &["Hello elsewhere"]);
    store.wait_for("hel", 1);
    wait_until("the other channel is indexed", || store.find(these(&["chat:other"]), "hello").len() == 1);
    assert_eq!(store.lobby("hello"), ["text Hello there"]);
    assert_eq!(store.find(these(&["chat:other", "chat:lobby", "chat:none"]), "hello").len(), 2);
    assert_eq!(store.find(these(&[]), "hello").len(), 0);
    assert_eq!(store.lobby("lines").len(), 0, "names of members are no text");
    assert_eq!(store.lobby("hello bye").len(), 0, "all of it in one message");
}

pub fn the_newest_come_first_and_page_by_page(store: &SearchStore) {
    let texts: Vec<String> = (0..25).map(|number| format!("note {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    store.say(&channel("chat:lobby"), "ann", &texts);
    store.wait_for("note", 25);
    let mut wanted = Wanted {
        app: app("demo"),
        places: these(&["chat:lobby"]),
        query: Query::parse("note").expect("a query"),
        before: None,
        limit: 10,
    };
    let mut seqs = Vec::new();
    loop {
        let page = store.page(wanted.clone());
        assert!(page.hits.len() <= 10);
        seqs.extend(page.hits.iter().map(|hit| hit.message.seq()));
        wanted.before = page.before;
        if page.before.is_none() {
            break;
        }
    }
    assert_eq!(seqs, (1..=25).rev().collect::<Vec<_>>());
}

pub fn apps_are_apart(store: &SearchStore) {
    store.say(&channel_of("other", "chat:lobby"), "ann", &["secret of another"]);
    store.say(&channel("chat:lobby"), "ann", &["secret of ours"]);
    store.wait_for("secret", 1);
    wait_until("the other app is indexed", || {
        let query = Query::parse("secret").expect("a query");
        let places = these(&["chat:lobby"]);
        store.page(Wanted { app: app("other"), places, query, before: None, limit: 9 }).hits.len() == 1
    });
    assert_eq!(store.find(Places::All, "secret"), ["text secret of ours"]);
}

pub fn all_channels_of_an_app_can_be_searched(store: &SearchStore) {
    for name in ["chat:a", "chat:b", "quiet:c"] {
        store.say(&channel(name), "ann", &["needle"]);
    }
    wait_until("both are indexed", || store.find(Places::All, "needle").len() == 2);
    assert_eq!(store.find(Places::All, "needle in:chat:b").len(), 1);
}

pub fn every_script_is_found(store: &SearchStore) {
    let texts = [
        "내일 대학교에서 만나자",
        "昨日東京タワーへ行った",
        "我在北京大学读书",
        "Crème brûlée, très bon",
        "ΟΔΟΣ",
    ];
    store.say(&channel("chat:lobby"), "ann", &texts);
    store.wait_for("oδος", 0);
    for (query, text) in [
        ("학교", texts[0]),
        ("タワー", texts[1]),
        ("東京", texts[1]),
        ("北京大", texts[2]),
        ("brulee TRES", texts[3]),
        ("οδός", texts[4]),
    ] {
        store.wait_for(query, 1);
        assert_eq!(store.lobby(query), [format!("text {text}")]);
    }
    assert_eq!(store.lobby("대에").len() + store.lobby("京東").len(), 0);
}

pub fn senders_and_dates_are_filters(store: &SearchStore) {
    let lobby = channel("chat:lobby");
    store.say(&lobby, "ann", &["one word"]);
    store.append(
        &lobby,
        ROOMY,
        vec![Draft { at: START + 86_400_000, ..draft_with("bob", "b", &data("two words")) }],
    );
    store.wait_for("wor", 2);
    for (query, expected) in [
        ("from:ann", "text one word"),
        ("wor from:bob", "text two words"),
        ("wor after:2026-01-01", "text two words"),
        ("wor before:2026-01-02", "text one word"),
    ] {
        assert_eq!(store.lobby(query), [expected], "{query}");
    }
    assert!(store.lobby("wor from:cid").is_empty() && store.lobby("after:2026-01-02").is_empty());
}

pub fn an_edited_message_is_found_by_its_new_words_alone(store: &SearchStore) {
    let lobby = channel("chat:lobby");
    let seqs = store.say(&lobby, "ann", &["first words", "other words"]);
    store.wait_for("words", 2);
    store.change(&lobby, "ann", Kind::Edit { target: seqs[0] }, "second thought");
    assert_eq!(store.lobby("first").len(), 0, "from the moment of the edit");
    store.wait_for("thought", 1);
    assert_eq!(store.lobby("text").len(), 2, "an edit is no message of its own");
}

pub fn what_was_deleted_is_not_found_from_then_on(store: &SearchStore) {
    let lobby = channel("chat:lobby");
    let seqs = store.say(&lobby, "ann", &["a mistake", "a remark"]);
    store.wait_for("mistake", 1);
    store.change(&lobby, "ann", Kind::Delete { target: seqs[0] }, "");
    assert_eq!(store.lobby("mistake").len(), 0);
    store.wait_for("remark", 1);
}

pub fn what_retention_took_is_not_found(store: &SearchStore) {
    let lobby = channel("chat:lobby");
    store.say(&lobby, "ann", &["old needle", "old hay"]);
    store.wait_for("old", 2);
    let two = Retention { count: 2, ..ROOMY };
    store.append(&lobby, two, vec![draft_with("ann", "new", &data("new hay"))]);
    assert_eq!(store.lobby("needle").len(), 0);
    store.wait_for("hay", 2);
}

pub fn what_was_erased_is_not_found(store: &SearchStore) {
    let (lobby, own) = (channel("chat:lobby"), channel("@ann"));
    store.say(&lobby, "ann", &["words of ann"]);
    store.say(&lobby, "bob", &["words of bob"]);
    store.say(&own, "bob", &["words for ann"]);
    store.wait_for("words", 2);
    wait_until("the own channel is indexed", || store.find(these(&["@ann"]), "words").len() == 1);
    let (app, ann) = (app("demo"), user("ann"));
    answer(|done| store.erasure.begin(&app, &ann, 7, done)).expect("begins");
    wait_until("the erasure has ended", || {
        answer(|done| store.erasure.step(&app, &ann, done)).expect("a step").ended
    });
    assert_eq!(store.find(Places::All, "words"), ["text words of bob"]);
    assert_eq!(store.lobby("from:ann").len(), 0);
    store.say(&own, "bob", &["words again"]);
    wait_until("the channel is found when it comes again", || {
        store.find(these(&["@ann"]), "words").len() == 1
    });
}

pub fn what_no_rule_searches_is_not_found(store: &SearchStore) {
    store.say(&channel("quiet:a"), "ann", &["whispered"]);
    store.say(&channel("chat:lobby"), "ann", &["said"]);
    store.wait_for("said", 1);
    assert_eq!(store.find(these(&["quiet:a", "chat:lobby"]), "whispered").len(), 0);
    (store.rule)(SearchStore::apps(false));
    assert_eq!(store.lobby("said").len(), 0, "from the moment that the rule says so");
}

pub fn channels_that_are_searched_from_now_on_are_found_whole(store: &SearchStore) {
    (store.rule)(SearchStore::apps(false));
    let texts: Vec<String> = (0..1_200).map(|number| format!("number {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    store.say(&channel("chat:lobby"), "ann", &texts);
    (store.rule)(SearchStore::apps(true));
    store.wait_for("number", 1_200);
}

pub fn candidates_that_are_no_hits_do_not_end_the_search(store: &SearchStore) {
    let mut texts = vec!["to be or not to be"];
    texts.extend(["be to"; 500]);
    store.say(&channel("chat:lobby"), "ann", &["x"; 1]);
    let drafts = |(number, text): (usize, &&str)| Draft {
        at: START + number as u64,
        ..draft_with("bob", &number.to_string(), &data(text))
    };
    store.append(&channel("chat:lobby"), ROOMY, texts.iter().enumerate().map(drafts).collect());
    store.wait_for("be", 501);
    assert_eq!(store.lobby("\"to be or\""), ["text to be or not to be"]);
}

pub fn no_text_makes_it_fail(store: &SearchStore) {
    store.say(&channel("chat:lobby"), "ann", &["NEAR OR AND \"quoted\" tokens: col^2 {a b}"]);
    store.wait_for("quoted", 1);
    for text in [
        "NEAR(a b)",
        "a AND",
        "OR",
        "NOT x",
        "\"",
        "\"\"",
        "a\"b",
        "a*",
        "*",
        "^a",
        "-a",
        "{a b}: c",
        "tokens:near",
        "a' OR 1=1 --",
        "rowid:1",
        "\u{0}a",
        "\u{e000}c1",
        "\u{e001}ne",
        "a;DROP TABLE words",
        "((((",
        "a + b",
        "$1 ?1 :x @y",
        "ｎｅａｒ",
        "\\",
        "🎉",
        "\u{202e}abc",
    ] {
        // What is no query is refused before it comes here.
        if Query::parse(text).is_ok() {
            store.lobby(text);
        }
    }
    assert_eq!(store.lobby("near OR").len(), 1, "words like all others");
}

pub fn done_may_search_again(store: &SearchStore) {
    let search = store.search.clone();
    ends(move || {
        let wanted = Wanted {
            app: app("demo"),
            places: Places::All,
            query: Query::parse("x").expect("a query"),
            before: None,
            limit: 1,
        };
        let (again, inner) = (search.clone(), wanted.clone());
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = move |_| again.search(inner, Box::new(move |_| _ = sender.send(())));
        search.search(wanted, Box::new(done));
        receiver.recv_timeout(super::PATIENCE).expect("an answer");
    });
}
