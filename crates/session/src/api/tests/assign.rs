use super::*;

async fn assign(world: &World, query: &str) -> Got {
    world.send(request("GET", &format!("/assign?{query}"), "", "")).await
}

#[tokio::test]
async fn each_channel_has_its_server() {
    let world = World::new().await;
    let got = assign(&world, "channel=chat:a&channel=chat:b&app=demo").await.ok();
    let channels = got.body["ok"]["channels"].as_array().unwrap();
    for (channel, name) in channels.iter().zip(["chat:a", "chat:b"]) {
        assert_eq!(channel["channel"], name);
        assert_eq!(channel["reason"], "no_ring");
        let node = channel["node"].as_str().unwrap();
        assert_eq!(channel["url"], format!("https://{node}.example"));
    }
    let again = assign(&world, "channel=chat:b").await.ok();
    assert_eq!(again.body["ok"]["channels"][0], channels[1], "the default app's, and the same as before");
    let not = channels[1]["node"].as_str().unwrap();
    let another = assign(&world, &format!("channel=chat:b&not={not}")).await.ok();
    assert_ne!(another.body["ok"]["channels"][0]["node"], not);
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let world = World::new().await;
    for (query, code) in [
        ("", "bad_field"),
        ("app=demo", "bad_field"),
        ("channel=a&app=demo&app=demo", "bad_field"),
        ("channel=a&app=nobody", "unknown_app"),
        ("channel=a%20b", "bad_channel"),
        ("channel=a&not=", "bad_field"),
    ] {
        assert_eq!(assign(&world, query).await.code(), code, "{query}");
    }
    let many = "channel=a&".repeat(65);
    assert_eq!(assign(&world, &many).await.code(), "bad_field");
    let many = format!("channel=a{}", "&not=n".repeat(17));
    assert_eq!(assign(&world, &many).await.code(), "bad_field");
}
