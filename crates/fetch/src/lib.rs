//! Requests to other servers, which an app's settings name: key sets, identity providers, hooks.
//!
//! An operator of one app must not reach through us what only this machine or its network can see. So: `https`, unless the URL literally says
//! loopback and that is within reach; no private address, checked where the connection is made, so that no name can lead to one; no redirects; bounds on time and size.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Response, Url, redirect};

/// From the first look-up to the last byte, when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer, when nothing else is said.
const LARGEST: usize = 262_144;

/// Where requests may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To public addresses, by `https`.
    Public,
    /// There, and to this machine when the URL literally says so, by `http`, too.
    PublicOrLoopback,
    /// Anywhere, by `http`, too.
    Anywhere,
}

/// Asks other servers.
#[derive(Debug)]
pub struct Fetch {
    client: OnceLock<Option<Client>>,
    reach: Reach,
    timeout: Duration,
    /// Connections to one server that are kept.
    idle: usize,
}

/// A request with a body.
pub struct Post<'a> {
    /// Where to.
    pub url: &'a str,
    /// Beside those of every request.
    pub headers: &'a [(&'static str, String)],
    /// JSON.
    pub body: Vec<u8>,
    /// From the first look-up to the last byte.
    pub timeout: Duration,
    /// Bytes of an answer that are taken.
    pub largest: usize,
}

/// Why there is no answer. For the log: it holds nothing of what was asked or answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The URL is none that we ask.
    Refused(&'static str),
    /// It could not be reached, or not in time.
    Unreachable(String),
    /// It answered with this status.
    Status(u16),
    /// It answered with more than we take.
    TooLarge,
}

impl Default for Fetch {
    fn default() -> Self {
        Self::new()
    }
}

impl Fetch {
    /// For key sets and identity providers.
    pub fn new() -> Self {
        Self::within(TIMEOUT)
    }

    /// With another bound on time.
    pub fn within(timeout: Duration) -> Self {
        Self { client: OnceLock::new(), reach: Reach::PublicOrLoopback, timeout, idle: 1 }
    }

    /// For many requests to the same servers, of which `idle` connections each are kept.
    pub fn reaching(reach: Reach, idle: usize) -> Self {
        Self { client: OnceLock::new(), reach, timeout: TIMEOUT, idle }
    }

    /// `GET`, for JSON.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let response = self.send(url, |client, url| client.get(url)).await?;
        body(response, LARGEST).await
    }

    /// `POST` of a form (RFC 6749, appendix B), for JSON; `user` and password by HTTP's Basic scheme.
    pub async fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        basic: Option<(&str, &str)>,
    ) -> Result<Vec<u8>, FetchError> {
        let mut encoded = Url::parse("form:").map_err(|_| FetchError::Refused("no form"))?;
        encoded.query_pairs_mut().extend_pairs(form);
        let form = encoded.query().unwrap_or_default().to_owned();
        let response = self.send(url, |client, url| {
            let request = client.post(url).header("content-type", "application/x-www-form-urlencoded");
            let request = match basic {
                Some((user, password)) => request.basic_auth(user, Some(password)),
                None => request,
            };
            request.body(form)
        });
        body(response.await?, LARGEST).await
    }

    /// `POST` of JSON, for JSON or nothing.
    pub async fn post_json(&self, post: Post<'_>) -> Result<Vec<u8>, FetchError> {
        let Post { url, headers, body: json, timeout, largest } = post;
        let response = self.send(url, |client, url| {
            let request = client.post(url).timeout(timeout).header("content-type", "application/json");
            headers.iter().fold(request, |request, (name, value)| request.header(*name, value)).body(json)
        });
        body(response.await?, largest).await
    }

    /// Parses a URL that we may ask.
    pub fn permitted(&self, url: &str) -> Result<Url, FetchError> {
        within(self.reach, url)
    }

    async fn send(
        &self,
        url: &str,
        request: impl FnOnce(&Client, Url) -> RequestBuilder,
    ) -> Result<Response, FetchError> {
        let url = self.permitted(url)?;
        let client = self.client.get_or_init(|| client(self.reach, self.timeout, self.idle));
        let client = client.as_ref().ok_or(FetchError::Unreachable("no client".to_owned()))?;
        let request = request(client, url).header("accept", "application/json");
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(FetchError::Status(response.status().as_u16()))
        }
    }
}

async fn body(mut response: Response, largest: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > largest {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Without its URL, which an error would repeat.
fn unreachable(error: reqwest::Error) -> FetchError {
    FetchError::Unreachable(chain(&error.without_url()))
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::Status(status) => write!(f, "answered with status {status}"),
            Self::TooLarge => f.write_str("answered with too many bytes"),
        }
    }
}

/// Parses a URL that may be asked by who reaches public servers and this machine.
pub fn permitted(url: &str) -> Result<Url, FetchError> {
    within(Reach::PublicOrLoopback, url)
}

fn within(reach: Reach, url: &str) -> Result<Url, FetchError> {
    let url = Url::parse(url).map_err(|_| FetchError::Refused("not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::Refused("a URL with a user or a password"));
    }
    // The parser has written numbers in whatever notation as addresses.
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    let loopback = loopback && reach != Reach::Public;
    match url.scheme() {
        "https" => {}
        "http" if loopback || reach == Reach::Anywhere => {}
        "http" if reach == Reach::Public => return Err(FetchError::Refused("not https")),
        _ => return Err(FetchError::Refused("neither https nor on loopback")),
    }
    let private = |address: IpAddr| reach != Reach::Anywhere && !loopback && !is_public(address);
    if host.is_empty() || address.is_some_and(private) {
        return Err(FetchError::Refused("an address that is not public"));
    }
    Ok(url)
}

/// Whether an address is reached through the public internet (IANA's special-purpose address registries).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!(
            (a, b, c),
            (0 | 224.., ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _)
        );
    !special
}

/// Global unicast only, without the blocks that carry an IPv4 address inside, or none.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    a & 0xe000 == 0x2000 && !matches!((a, b), (0x2001, ..0x0200 | 0x0db8) | (0x2002, _) | (0x3fff, ..0x1000))
}

fn client(reach: Reach, timeout: Duration, idle: usize) -> Option<Client> {
    let client = Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(idle)
        .user_agent(concat!("xpush/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(Within(reach)))
        .build();
    client.inspect_err(|error| tracing::error!(%error, "no HTTP client")).ok()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The system's resolver, without the addresses that are out of reach. What it gives is what is connected to: there is no second look-up.
struct Within(Reach);

impl Resolve for Within {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let may = |address: IpAddr| match (reach, name.as_str()) {
                (Reach::Anywhere, _) => true,
                (Reach::PublicOrLoopback, "localhost") => address.is_loopback(),
                _ => is_public(address),
            };
            let good: Vec<_> = found.into_iter().filter(|address| may(address.ip())).collect();
            if good.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
