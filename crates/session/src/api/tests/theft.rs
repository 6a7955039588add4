//! Refresh tokens: the chain, lost answers, and copies.

use super::*;

async fn refresh(world: &World, token: &str) -> Got {
    world.post("/auth/refresh", json!({ "refresh_token": token })).await
}

#[tokio::test]
async fn each_refresh_token_is_exchanged_for_the_next() {
    let world = World::new().await;
    let mut token = world.register("ann").await.text("refresh_token");
    let mut seen = vec![token.clone()];
    for _ in 0..3 {
        // Sliding: each time nearly 30 days later.
        world.clock.advance(29 * 86_400_000);
        let got = refresh(&world, &token).await.ok();
        assert!(world.admits(&got.text("access_token")).await);
        token = got.text("refresh_token");
        assert!(!seen.contains(&token));
        seen.push(token.clone());
    }
    world.clock.advance(30 * 86_400_000);
    assert_eq!(refresh(&world, &token).await.code(), "token_expired");
    assert_eq!(refresh(&world, &token).await.code(), "revoked", "its login is no longer kept");
}

#[tokio::test]
async fn only_digests_are_kept() {
    let world = World::new().await;
    let first = world.register("ann").await.text("refresh_token");
    let second = refresh(&world, &first).await.ok().text("refresh_token");
    let entries = world.page(Listing::Logins(demo(), user("ann"))).await;
    let [Entry { record: Record::Login(login), .. }] = &entries[..] else { panic!("one login") };
    for token in [&first, &second] {
        for part in token.split('.') {
            assert!(!login.refresh.contains(part) && !login.previous.as_ref().unwrap().contains(part));
        }
    }
    assert_eq!(login.refresh.len(), 43, "SHA-256 as base64url");
}

#[tokio::test]
async fn a_lost_answer_is_given_again() {
    let world = World::new().await;
    let first = world.register("ann").await.text("refresh_token");
    let second = refresh(&world, &first).await.ok().text("refresh_token");
    world.clock.advance(10_000);
    let again = refresh(&world, &first).await.ok();
    assert_eq!(again.text("refresh_token"), second);
    assert!(world.admits(&again.text("access_token")).await);
    refresh(&world, &second).await.ok();
}

#[tokio::test]
async fn a_copy_that_comes_later_ends_the_login_of_both() {
    let world = World::new().await;
    let other = world.register("ann").await;
    let stolen = world.log_in("ann", "phone").await;
    let next = refresh(&world, &stolen.text("refresh_token")).await.ok();
    world.clock.advance(10_001);
    assert_eq!(refresh(&world, &stolen.text("refresh_token")).await.code(), "revoked");
    assert_eq!(refresh(&world, &next.text("refresh_token")).await.code(), "revoked");
    assert!(!world.admits(&next.text("access_token")).await);
    assert!(world.admits(&other.text("access_token")).await, "another login of the same user");
}

#[tokio::test]
async fn the_last_but_one_is_a_copy_at_once() {
    let world = World::new().await;
    let first = world.register("ann").await.text("refresh_token");
    let second = refresh(&world, &first).await.ok().text("refresh_token");
    let third = refresh(&world, &second).await.ok().text("refresh_token");
    assert_eq!(refresh(&world, &first).await.code(), "revoked");
    assert_eq!(refresh(&world, &third).await.code(), "revoked");
}

#[tokio::test]
async fn many_at_once_get_the_same_one() {
    let world = Arc::new(World::new().await);
    let token = world.register("ann").await.text("refresh_token");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (world, token) = (world.clone(), token.clone());
            tokio::spawn(async move { refresh(&world, &token).await.ok().text("refresh_token") })
        })
        .collect();
    let mut tokens = Vec::new();
    for task in tasks {
        tokens.push(task.await.unwrap());
    }
    assert!(tokens.iter().all(|got| *got == tokens[0] && *got != token), "{tokens:?}");
    refresh(&world, &tokens[0]).await.ok();
}

#[tokio::test]
async fn what_was_never_issued_ends_nothing() {
    let world = World::new().await;
    let registered = world.register("ann").await;
    let token = registered.text("refresh_token");
    let parts: Vec<_> = token.split('.').collect();
    for forged in [
        format!("{}.{}.{}", parts[0], "A".repeat(43), parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        token.to_lowercase(),
        registered.text("access_token"),
        String::new(),
    ] {
        assert_eq!(refresh(&world, &forged).await.code(), "unauthenticated", "{forged}");
    }
    refresh(&world, &token).await.ok();
}

#[tokio::test]
async fn who_may_not_any_more_gets_no_new_tokens() {
    let world = World::new().await;
    let key = Key::User(demo(), user("ann"));
    let token = world.register("ann").await.text("refresh_token");
    let Record::User(record) = world.entry(key.clone()).await.unwrap().record else { panic!() };
    // Revoked by an operator, who has not touched the logins.
    let mut revoked = record.clone();
    revoked.tokens_valid_from = world.clock.wall() + 1;
    world.put(key.clone(), Record::User(revoked)).await;
    assert_eq!(refresh(&world, &token).await.code(), "revoked");
    world.put(key.clone(), Record::User(record.clone())).await;
    assert_eq!(refresh(&world, &token).await.code(), "revoked", "for good");

    let token = world.log_in("ann", "phone").await.text("refresh_token");
    let mut disabled = record;
    disabled.disabled = true;
    world.put(key, Record::User(disabled)).await;
    assert_eq!(refresh(&world, &token).await.code(), "revoked");
}
