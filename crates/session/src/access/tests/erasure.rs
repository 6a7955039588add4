//! Users who are erased on another node.

use xpush_core::ports::erasure::Erasure;
use xpush_sqlite::Ledger;

use super::*;

fn barred() -> Record {
    Record::User(Box::new(UserRecord {
        disabled: true,
        tokens_valid_from: NOW * 1000,
        ..UserRecord::default()
    }))
}

/// From now on nothing says that there was such a user.
async fn forget(world: &World, user: &User) {
    let store = Store::open(world.folder.path().join("xpush.db"), Options::default()).unwrap();
    let log = Ledger::new(store, world.clock.clone()).unwrap();
    ask(|done| Erasure::end(&log, &demo(), user, done)).await.unwrap();
}

#[tokio::test]
async fn an_id_is_free_everywhere_as_soon_as_it_is_anywhere() {
    let world = World::new(app([])).await;
    let ann = Key::User(demo(), user("ann"));
    world.put(ann.clone(), barred()).await;
    world.ear.hears(&revoked(&user("ann"), NOW * 1000 + LEEWAY + 1)).await;
    assert_eq!(world.admit(&token(claims("ann"))).await.unwrap_err().code, Code::Revoked);
    world.put(ann, None).await;
    forget(&world, &user("ann")).await;
    assert!(world.admit(&token(claims("ann"))).await.is_ok());
}

#[tokio::test]
async fn whoever_was_cut_off_while_a_user_was_erased_takes_nothing_for_what_it_was() {
    let world = World::new(app([])).await;
    let ann = Key::User(demo(), user("ann"));
    let known = UserRecord { name: Some("Ann".into()), ..UserRecord::default() };
    world.put(ann.clone(), Record::User(Box::new(known))).await;
    // Behind it, so that nothing of it is still to be heard.
    world.put(Key::App(demo()), Record::App(Box::new(app([])))).await;
    world.ear.hears(&Changed::App(demo())).await;
    let name = async || world.admit(&token(claims("ann"))).await.unwrap().sender.name;
    assert_eq!(name().await.as_deref(), Some("Ann"));

    world.lost.store(true, Ordering::SeqCst);
    assert_eq!(name().await.as_deref(), Some("Ann"), "it is remembered");
    world.put(ann.clone(), barred()).await;
    world.put(ann, None).await;
    forget(&world, &user("ann")).await;
    world.lost.store(false, Ordering::SeqCst);
    world.ear.hears(&Changed::Everything).await;
    assert_eq!(name().await, None);
    // Once: what comes next is told as ever.
    world.put(Key::App(demo()), Record::App(Box::new(app([])))).await;
    world.ear.hears(&Changed::App(demo())).await;
    assert!(!world.ear.heard.lock().unwrap().contains(&Changed::Everything));
}
