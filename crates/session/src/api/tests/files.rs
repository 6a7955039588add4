//! Files, over a real store and a real folder.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use axum::body::Bytes;
use futures_util::stream;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use xpush_core::access::AppLimits;
use xpush_core::files::FileRule;
use xpush_core::ports::blobs::{BlobId, Part};
use xpush_core::ports::directory::{DeletionRecord, MemberRecord};
use xpush_core::ports::files::{FileListing, FileRecord, FileState};
use xpush_core::{Channel, ChannelKey, FileId};

use super::*;

fn rule(channels: &str, size: u64, types: &[&str]) -> FileRule {
    let types = types.iter().map(|kind| Box::from(*kind)).collect();
    FileRule { channels: channels.into(), size, types, keep_ms: Some(60_000), per_day: None }
}

fn with_files(rules: Vec<FileRule>) -> AppRecord {
    AppRecord { files: rules, ..app(Accounts::Open) }
}

/// A world in which ann and bob are members of `room:1`, and eve is nobody; with their tokens.
async fn world(rules: Vec<FileRule>) -> (World, [String; 3]) {
    world_of(with_files(rules)).await
}

async fn world_of(app: AppRecord) -> (World, [String; 3]) {
    let world = World::with(app).await;
    let mut tokens = Vec::new();
    for name in ["ann", "bob", "eve"] {
        tokens.push(world.register(name).await.text("access_token"));
    }
    for name in ["ann", "bob"] {
        join(&world, "room:1", name).await;
    }
    (world, tokens.try_into().unwrap())
}

async fn join(world: &World, channel: &str, name: &str) {
    let channel = ChannelKey::new(demo(), Channel::new(channel).unwrap());
    world.put(Key::Member(channel, user(name)), Record::Member(MemberRecord::default())).await;
}

fn upload(path: &str, token: &str, kind: &str, body: impl Into<Body>) -> Request {
    Request::builder()
        .method("POST")
        .uri(format!("/api/v1{path}"))
        .header("host", "xpush.example")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", kind)
        .body(body.into())
        .unwrap()
}

async fn put(world: &World, token: &str, name: &str, body: &[u8]) -> Got {
    let path = format!("/channels/room:1/files?name={name}");
    world.send(upload(&path, token, "application/octet-stream", body.to_vec())).await
}

async fn bytes(world: &World, request: Request) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = world.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, 1 << 24).await.unwrap().to_vec())
}

async fn download(world: &World, path: &str, token: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    bytes(world, request("GET", path, token, "")).await
}

fn kept(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { kept(&entry.path()) } else { 1 }).sum()
}

/// Waits until so many contents are kept.
async fn comes_down_to(world: &World, count: usize) {
    for _ in 0..3_000 {
        if kept(&world.folder.path().join("files")) == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} contents are kept", kept(&world.folder.path().join("files")));
}

fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 99]));
    let mut bytes = Vec::new();
    DynamicImage::ImageRgb8(image).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

#[tokio::test]
async fn members_exchange_a_file_and_a_stranger_learns_nothing() {
    let (world, [ann, bob, eve]) = world(vec![rule("room:*", 1_000, &["*/*"])]).await;
    let got = put(&world, &ann, "..%2F..%2Fnotes.txt", b"hello").await;
    assert_eq!(got.status, 201, "{got:?}");
    let file = &got.body["file"];
    assert_eq!(
        (&file["name"], &file["type"], &file["size"]),
        (&json!("notes.txt"), &json!("text/plain"), &json!(5))
    );
    let path = format!("/files/{}", file["id"].as_str().unwrap());
    for token in [&ann, &bob] {
        let (status, headers, body) = download(&world, &path, token).await;
        assert_eq!((status.as_u16(), &body[..]), (200, &b"hello"[..]));
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            header("content-disposition"),
            "attachment; filename=\"notes.txt\"; filename*=UTF-8''notes.txt"
        );
        assert_eq!(
            (header("x-content-type-options"), header("content-length")),
            ("nosniff".into(), "5".into())
        );
        assert_eq!(header("content-security-policy"), "default-src 'none'; sandbox");
        assert!(!header("cache-control").contains("no-store"));
    }
    let missing = "/files/00000000000000000000000000";
    for path in [&path, &format!("{path}/info"), missing, "/files/..%2f..%2fetc", "/files/x"] {
        let (eve, nobody) = (world.get(path, &eve).await, world.get(path, "").await);
        assert_eq!((eve.status.as_u16(), eve.code()), (404, "not_found"), "{path}");
        assert_eq!(
            nobody.status,
            if path.len() > 30 || path.contains(missing) { 401 } else { nobody.status.as_u16() }
        );
    }
    let refused = world.send(request("DELETE", &path, &eve, "")).await;
    assert_eq!(refused.code(), "not_found");
    let refused = put(&world, &eve, "x", b"x").await;
    assert_eq!(refused.code(), "forbidden");
    assert_eq!(world.send(request("DELETE", &path, &bob, "")).await.code(), "forbidden");
    world.send(request("DELETE", &path, &ann, "")).await.ok();
    assert_eq!(world.get(&path, &ann).await.code(), "not_found");
    comes_down_to(&world, 0).await;
}

#[tokio::test]
async fn ranges_and_tags_are_those_of_the_standard() {
    let (world, [ann, ..]) = world(vec![rule("*", 1_000, &["*/*"])]).await;
    let got = put(&world, &ann, "a", b"0123456789").await;
    let path = format!("/files/{}", got.body["file"]["id"].as_str().unwrap());
    let with = |name: &'static str, value: &str| {
        let mut request = request("GET", &path, &ann, "");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let (status, headers, body) = bytes(&world, with("range", "bytes=2-4")).await;
    assert_eq!(
        (status.as_u16(), &body[..], &headers["content-range"]),
        (206, &b"234"[..], &"bytes 2-4/10".parse().unwrap())
    );
    let (status, headers, _) = bytes(&world, with("range", "bytes=10-")).await;
    assert_eq!((status.as_u16(), &headers["content-range"]), (416, &"bytes */10".parse().unwrap()));
    let (status, headers, _) = download(&world, &path, &ann).await;
    assert_eq!((status.as_u16(), &headers["accept-ranges"]), (200, &"bytes".parse().unwrap()));
    let (status, _, body) = bytes(&world, with("if-none-match", headers["etag"].to_str().unwrap())).await;
    assert_eq!((status.as_u16(), body.len()), (304, 0));
}

#[tokio::test]
async fn what_is_too_large_or_of_another_type_is_refused_and_leaves_nothing() {
    let mut bounded = rule("room:*", 10_000, &["image/png", "text/plain"]);
    bounded.per_day = Some(15_000);
    let (world, [ann, bob, _]) = world(vec![bounded]).await;
    assert_eq!(put(&world, &ann, "a", &[b'x'; 10_001]).await.code(), "too_large");
    // Without an announcement it is found out on the way.
    let chunks = (0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1_000])));
    let body = Body::from_stream(stream::iter(chunks.collect::<Vec<_>>()));
    let got = world.send(upload("/channels/room:1/files", &ann, "text/plain", body)).await;
    assert_eq!(got.code(), "too_large");
    for (said, body) in [
        ("image/png", &b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"[..]),
        ("text/plain", b"<!doctype html><script>alert(1)</script>"),
        ("image/png", b"%PDF-1.7"),
        ("text/plain", b"\0\0\0"),
    ] {
        let got = world.send(upload("/channels/room:1/files", &ann, said, body.to_vec())).await;
        assert_eq!(got.code(), "bad_file_type", "{said}");
    }
    assert_eq!(put(&world, &ann, "a", &[b'x'; 10_000]).await.status, 201);
    assert_eq!(put(&world, &ann, "a", &[b'x'; 5_001]).await.code(), "rate_limited");
    assert_eq!(put(&world, &bob, "a", &[b'x'; 5_001]).await.status, 201, "bob has a day of his own");
    comes_down_to(&world, 2).await;
    let elsewhere = world.send(upload("/channels/other/files", &ann, "text/plain", "x")).await;
    assert_eq!(elsewhere.code(), "forbidden");
    join(&world, "other", "bob").await;
    let elsewhere = world.send(upload("/channels/other/files", &bob, "text/plain", "x")).await;
    assert_eq!(elsewhere.code(), "no_files");
}

#[tokio::test]
async fn all_files_of_an_app_together_have_a_bound_and_room_is_found_at_once() {
    let limits = AppLimits { files: Some(25_000), ..AppLimits::default() };
    let app = AppRecord { limits, ..with_files(vec![rule("room:*", 10_000, &["*/*"])]) };
    let (world, [ann, bob, _]) = world_of(app).await;
    let first = put(&world, &ann, "a", &[b'x'; 10_000]).await;
    assert_eq!(put(&world, &bob, "b", &[b'x'; 10_000]).await.status, 201);
    let refused = put(&world, &bob, "c", &[b'x'; 5_001]).await;
    assert_eq!((refused.code(), refused.status.as_u16()), ("full", 507));
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("25 kB"), "{refused:?}");
    // Without an announcement it is found out on the way.
    let chunks = (0..6).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1_000])));
    let body = Body::from_stream(stream::iter(chunks.collect::<Vec<_>>()));
    assert_eq!(world.send(upload("/channels/room:1/files", &ann, "text/plain", body)).await.code(), "full");
    assert_eq!(put(&world, &ann, "d", &[b'x'; 5_000]).await.status, 201, "to the last byte");
    assert_eq!(put(&world, &ann, "e", b"").await.code(), "full");
    let path = format!("/files/{}", first.body["file"]["id"].as_str().unwrap());
    assert_eq!(world.send(request("DELETE", &path, &ann, "")).await.status, 200);
    assert_eq!(put(&world, &bob, "f", &[b'x'; 10_000]).await.status, 201, "whose room is taken");
    comes_down_to(&world, 3).await;
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    let (world, [ann, ..]) = world(vec![rule("room:*", 1 << 20, &["*/*"])]).await;
    let cut = stream::iter([Ok(Bytes::from(vec![b'x'; 400_000])), Err(std::io::Error::other("gone"))]);
    let got = world.send(upload("/channels/room:1/files", &ann, "text/plain", Body::from_stream(cut))).await;
    assert_eq!(got.code(), "bad_request");
    comes_down_to(&world, 0).await;
    // Whoever waits for the answer goes away.
    let half = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 400_000]))]);
    let body = Body::from_stream(futures_util::StreamExt::chain(half, stream::pending()));
    let asked = world.router.clone().oneshot(upload("/channels/room:1/files", &ann, "text/plain", body));
    let asked = tokio::spawn(asked);
    for _ in 0..3_000 {
        if kept(&world.folder.path().join("files")) == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(kept(&world.folder.path().join("files")), 1);
    asked.abort();
    comes_down_to(&world, 0).await;
    for _ in 0..3_000 {
        let listing = FileListing::OfApp(demo());
        if ask(|done| world.files.list(&listing, None, 9, done)).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the file is still known");
}

#[tokio::test]
async fn an_image_is_written_anew_and_has_a_thumbnail() {
    let (world, [ann, bob, _]) = world(vec![rule("room:*", 1 << 20, &["image/*"])]).await;
    let hidden = [&picture(640, 320, ImageFormat::Jpeg)[..], b"<script>hidden()</script>"].concat();
    let got = put(&world, &ann, "a.png.html", &hidden).await;
    assert_eq!(got.status, 201, "{got:?}");
    let file = &got.body["file"];
    assert_eq!(
        (&file["type"], &file["width"], &file["height"]),
        (&json!("image/jpeg"), &json!(640), &json!(320))
    );
    assert_eq!((&file["thumbnail"]["width"], &file["thumbnail"]["height"]), (&json!(320), &json!(160)));
    let url = |of: &Value| of["url"].as_str().unwrap().strip_prefix("/api/v1").unwrap().to_owned();
    let (_, headers, body) = download(&world, &url(file), &bob).await;
    assert_eq!(headers["content-type"], "image/jpeg");
    assert!(headers["content-disposition"].to_str().unwrap().starts_with("inline"));
    assert!(!body.windows(6).any(|part| part == b"hidden"), "what hangs behind it is gone");
    assert_eq!(image::load_from_memory(&body).unwrap().width(), 640);
    let (_, headers, body) = download(&world, &url(&file["thumbnail"]), &bob).await;
    assert_eq!(
        (headers["content-type"].as_bytes(), image::load_from_memory(&body).unwrap().width()),
        (&b"image/jpeg"[..], 320)
    );
    comes_down_to(&world, 2).await;
    // More pixels than the server looks at; and what is none.
    for bad in
        [picture(1_100, 1_000, ImageFormat::Png), b"\x89PNG\r\n\x1a\nnonsense".to_vec(), b"GIF89a".to_vec()]
    {
        assert_eq!(put(&world, &ann, "a", &bad).await.code(), "bad_image");
    }
    comes_down_to(&world, 2).await;
}

#[tokio::test]
async fn a_ticket_opens_one_channel_for_ten_minutes() {
    let mut forever = rule("*", 1_000, &["*/*"]);
    forever.keep_ms = None;
    let (world, [ann, bob, eve]) = world(vec![forever]).await;
    join(&world, "room:2", "ann").await;
    let here = put(&world, &ann, "a", b"here").await;
    let there = world.send(upload("/channels/room:2/files", &ann, "text/plain", "there")).await;
    let ticket =
        world.ask("POST", "/channels/room:1/files/ticket", &bob, json!({})).await.ok().text("ticket");
    assert_eq!(world.ask("POST", "/channels/room:1/files/ticket", &eve, json!({})).await.code(), "forbidden");
    let path = |got: &Got, ticket: &str| {
        format!("/files/{}?ticket={ticket}", got.body["file"]["id"].as_str().unwrap())
    };
    assert_eq!(download(&world, &path(&here, &ticket), "").await.2, b"here");
    assert_eq!(world.get(&path(&there, &ticket), "").await.code(), "not_found");
    assert_eq!(world.get(&path(&here, "nonsense"), "").await.code(), "unauthenticated");
    world.clock.advance(600_001);
    assert_eq!(world.get(&path(&here, &ticket), "").await.code(), "unauthenticated");
}

#[tokio::test]
async fn what_is_over_is_gone_and_swept() {
    let (world, [ann, ..]) = world(vec![rule("*", 1_000, &["*/*"])]).await;
    let got = put(&world, &ann, "a", b"short").await;
    let path = format!("/files/{}", got.body["file"]["id"].as_str().unwrap());
    world.clock.advance(59_000);
    world.get(&path, &ann).await.ok();
    let early = crate::files::round(&*world.blobs, &*world.files, world.clock.wall()).await;
    assert_eq!(early, Ok(0));
    world.clock.advance(1_001);
    assert_eq!(world.get(&path, &ann).await.code(), "not_found", "before it is swept");
    let swept = crate::files::round(&*world.blobs, &*world.files, world.clock.wall()).await;
    assert_eq!(swept, Ok(1));
    comes_down_to(&world, 0).await;
}

#[tokio::test]
async fn a_user_who_is_erased_takes_its_files_along() {
    let (world, [ann, bob, _]) = world(vec![rule("*", 1_000, &["*/*"])]).await;
    for number in 0..6 {
        assert_eq!(put(&world, &ann, &number.to_string(), b"anns").await.status, 201);
    }
    assert_eq!(put(&world, &bob, "b", b"bobs").await.status, 201);
    world.send(request("DELETE", "/me", &ann, "")).await.ok();
    world.erased("ann").await;
    comes_down_to(&world, 1).await;
}

#[tokio::test]
async fn a_back_end_uploads_for_its_users_and_lists() {
    let (world, [ann, ..]) = world(vec![rule("*", 1_000, &["*/*"])]).await;
    let server =
        app_token(json!({"sub": "server", "roles": ["server"], "exp": 4_000_000_000_u64, "app": "demo"}));
    let path = "/channels/room:1/files?user=ann&name=r.txt";
    let got = world.send(upload(path, &server, "text/plain", "report")).await;
    assert_eq!((got.status.as_u16(), &got.body["file"]["user"]), (201, &json!("ann")));
    assert_eq!(world.send(upload(path, &ann, "text/plain", "report")).await.code(), "forbidden");
    world.clock.advance(1);
    let second = world.send(upload("/channels/room:1/files", &server, "text/plain", "two")).await;
    let page = world.get("/channels/room:1/files?limit=1", &server).await.ok();
    assert_eq!(page.body["files"][0]["id"], second.body["file"]["id"]);
    let rest = world.get(&format!("/channels/room:1/files?after={}", page.text("after")), &server).await.ok();
    assert_eq!(
        (&rest.body["files"][0]["name"], rest.body["files"].as_array().map(Vec::len)),
        (&json!("r.txt"), Some(1))
    );
    assert_eq!(world.get("/channels/room:1/files", &ann).await.code(), "forbidden");
}

fn shop() -> App {
    App::new("shop").unwrap()
}

/// A file of the app `shop`, with its content, made just now.
async fn stock(world: &World, number: u8) -> FileRecord {
    let now = world.clock.wall();
    let file = FileRecord {
        id: FileId::made_of(now, [number; 16]),
        app: shop(),
        channel: Channel::new("room:1").unwrap(),
        owner: user("ann"),
        name: "a".into(),
        kind: "text/plain".into(),
        size: 1,
        hash: "x".into(),
        width: None,
        height: None,
        thumbnail: None,
        created_at: now,
        expires_at: None,
        state: FileState::Ready,
    };
    ask(|done| world.files.add(file.clone(), done)).await.unwrap();
    let id = BlobId::new(file.id.clone(), Part::Content);
    let mut upload = ask(|done| world.blobs.create(&id, 1, done)).await.unwrap();
    ask(|done| upload.write(Bytes::from_static(b"x"), done)).await.unwrap();
    ask(|done| upload.finish(done)).await.unwrap();
    file
}

async fn of_shop(world: &World) -> Vec<FileRecord> {
    ask(|done| world.files.list(&FileListing::OfApp(shop()), None, 1_000, done)).await.unwrap()
}

async fn go_on_deleting(world: &World) {
    let stores = world.api.filing().unwrap().stores();
    let lasting = world.api.parts.eraser.lasting();
    world.api.parts.administration.go_on_deleting(&*lasting, Some(&stores)).await.unwrap();
}

async fn begun(world: &World) {
    let at = world.clock.wall();
    let record = DeletionRecord { at, before: at + 10_000, gone: false };
    world.put(Key::Deletion(shop()), Record::Deletion(record)).await;
}

#[tokio::test]
async fn what_a_crash_has_left_of_an_app_goes_and_no_other_app_has_it() {
    let world = World::new().await;
    let actor = administration::Actor::command_line();
    for number in 0..105 {
        stock(&world, number).await;
    }
    // Cut short behind the removal of the app itself.
    begun(&world).await;
    let administration = world.api.parts.administration.clone();
    let shop = shop();
    let create = || administration.create_app(&actor, &shop, app(Accounts::Off), None);
    assert_eq!(create().await.unwrap_err().code(), xpush_core::Code::Conflict, "it would have the files");
    go_on_deleting(&world).await;
    assert_eq!(of_shop(&world).await.len(), 5, "as many as somebody waits for");
    assert_eq!(create().await.unwrap_err().code(), xpush_core::Code::Conflict);
    go_on_deleting(&world).await;
    assert_eq!(of_shop(&world).await, []);
    comes_down_to(&world, 0).await;
    // A server that had not heard of it takes one more file in; the app of this name that comes now keeps its own.
    let stray = stock(&world, 200).await;
    world.clock.advance(1);
    create().await.unwrap();
    let own = stock(&world, 201).await;
    world.clock.advance(5_000);
    go_on_deleting(&world).await;
    assert_eq!(of_shop(&world).await, [own.clone(), stray], "who is late has a moment");
    world.clock.advance(10_001);
    go_on_deleting(&world).await;
    assert_eq!(of_shop(&world).await, std::slice::from_ref(&own));
    assert!(world.entry(Key::Deletion(shop.clone())).await.is_none(), "it has come to its end");
    // Cut short before the app itself was removed: it stays, with everything.
    begun(&world).await;
    for ms in [59_000, 2_000] {
        world.clock.advance(ms);
        go_on_deleting(&world).await;
    }
    assert!(
        world.entry(Key::Deletion(shop.clone())).await.is_none()
            && world.entry(Key::App(shop.clone())).await.is_some()
    );
    assert_eq!(of_shop(&world).await, [own]);
    // And deleted in order, at last.
    let (stores, lasting) = (world.api.filing().unwrap().stores(), world.api.parts.eraser.lasting());
    let deleted =
        administration.delete_app(&actor, &shop, administration::Match::Any, None, &*lasting, Some(&stores));
    assert!(!deleted.await.unwrap());
    assert_eq!(of_shop(&world).await, []);
    create().await.unwrap();
}
