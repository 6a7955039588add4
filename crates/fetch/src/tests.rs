use super::*;

use axum::Router;
use axum::response::Redirect;
use axum::routing::{get, post};
use tokio::net::TcpListener;

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[test]
fn only_public_https_and_literal_loopback() {
    for good in [
        "https://accounts.example/x",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "http://127.0.0.1:8080/",
        "http://localhost/",
        "http://[::1]:1/",
        "https://localhost/",
    ] {
        assert!(permitted(good).is_ok(), "{good}");
    }
    for bad in [
        "http://accounts.example/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://user@accounts.example/",
        "https://:secret@accounts.example/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://100.64.0.1/",
        "https://198.18.0.1/",
        "https://255.255.255.255/",
        // the same addresses in other notations
        "https://0xa9fea9fe/",
        "https://2852039166/",
        "https://0251.0376.0251.0376/",
        "https://[::ffff:10.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[fd00::1]/",
        "https://[fe80::1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[2002:a00:1::]/",
        "https://[2001::1]/",
        "https://[::]/",
        "",
        "accounts.example",
        "https://",
    ] {
        assert!(matches!(permitted(bad), Err(FetchError::Refused(_))), "{bad}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_leads_nowhere() {
    // This machine's own name, or any that its hosts file knows: whatever it is, it must not be reached under a name that is not literally loopback.
    let name: Name = "ip6-localhost".parse().unwrap();
    assert!(Within(Reach::PublicOrLoopback).resolve(name).await.is_err());
    let name: Name = "localhost".parse().unwrap();
    assert!(
        Within(Reach::PublicOrLoopback)
            .resolve(name)
            .await
            .unwrap()
            .all(|address| address.ip().is_loopback())
    );
}

#[tokio::test]
async fn answers_are_taken_as_they_are_and_redirects_are_not_followed() {
    let secret = "the-other-server's-secret";
    let inner = serve(Router::new().route("/", get(move || async move { secret }))).await;
    let router = Router::new()
        .route("/json", get(|| async { "{}" }))
        .route("/away", get(move || async move { Redirect::temporary(&inner) }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/large", get(|| async { "x".repeat(LARGEST + 1) }))
        .route("/full", get(|| async { "x".repeat(LARGEST) }));
    let (fetch, url) = (Fetch::new(), serve(router).await);
    assert_eq!(fetch.get(&format!("{url}/json")).await.unwrap(), b"{}");
    assert_eq!(fetch.get(&format!("{url}/away")).await, Err(FetchError::Status(307)));
    assert_eq!(fetch.get(&format!("{url}/nothing")).await, Err(FetchError::Status(404)));
    assert_eq!(fetch.get(&format!("{url}/large")).await, Err(FetchError::TooLarge));
    assert_eq!(fetch.get(&format!("{url}/full")).await.unwrap().len(), LARGEST);
    let form = fetch.post(&format!("{url}/echo"), &[("a", "1 2"), ("b", "&=방")], None).await.unwrap();
    assert_eq!(String::from_utf8(form).unwrap(), "a=1+2&b=%26%3D%EB%B0%A9");
}

#[tokio::test]
async fn who_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
    let error = Fetch::within(Duration::from_millis(50)).get(&url).await.unwrap_err();
    let FetchError::Unreachable(why) = &error else { panic!("{error}") };
    assert!(!why.contains("secret-path"), "{why}");
}

#[test]
fn a_hook_reaches_this_machine_only_where_that_is_allowed() {
    let (public, anywhere) = (Fetch::reaching(Reach::Public, 1), Fetch::reaching(Reach::Anywhere, 1));
    assert!(public.permitted("https://hooks.example/x").is_ok());
    for private in [
        "http://127.0.0.1:8080/",
        "https://127.0.0.1/",
        "http://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://10.0.0.1/",
        "http://hooks.example/",
    ] {
        assert!(matches!(public.permitted(private), Err(FetchError::Refused(_))), "{private}");
        assert!(anywhere.permitted(private).is_ok(), "{private}");
    }
    for bad in ["ftp://127.0.0.1/", "http://user@127.0.0.1/", "file:///etc/passwd", ""] {
        assert!(anywhere.permitted(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn the_name_of_this_machine_is_no_public_one() {
    assert!(Within(Reach::Public).resolve("localhost".parse().unwrap()).await.is_err());
    assert!(Within(Reach::Anywhere).resolve("localhost".parse().unwrap()).await.is_ok());
}
