//! What an API server may do to a watch, played by a server that answers by a script, to the real client.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Response, Uri};
use axum::{Router, extract::State};
use futures_util::stream;
use hauberk_certs::UnixTime;
use serde_json::{Value, json};

use super::super::objects::Objects;
use super::*;
use crate::source::Update;

/// One answer of the script.
enum Answer {
    Json(Value),
    /// 429 with `Retry-After` in seconds.
    TooMany(u32),
    /// Events of a watch; then the connection is closed, or left open.
    Watch(Vec<Value>, Then),
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Wait,
}

#[derive(Clone, Default)]
struct Server {
    script: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the script on loopback; a client of it.
    async fn start(script: impl IntoIterator<Item = Answer>) -> (Self, Client) {
        let server = Self::default();
        server.script.lock().unwrap().extend(script);
        let app = Router::new().fallback(answer).with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        (server, client)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(server): State<Server>, uri: Uri) -> Response<Body> {
    server.asked.lock().unwrap().push(uri.to_string());
    let next = server.script.lock().unwrap().pop_front();
    match next {
        Some(Answer::Json(value)) => Response::new(Body::from(value.to_string())),
        Some(Answer::TooMany(seconds)) => {
            let status = json!({"kind": "Status", "status": "Failure", "code": 429, "message": "later"});
            let response = Response::builder().status(429).header("Retry-After", seconds);
            response.body(Body::from(status.to_string())).unwrap()
        }
        Some(Answer::Watch(events, then)) => {
            let lines = events
                .into_iter()
                .map(|event| Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))));
            let lines = stream::iter(lines);
            Response::new(match then {
                Then::Close => Body::from_stream(lines),
                Then::Wait => Body::from_stream(lines.chain(stream::pending())),
            })
        }
        None => Response::new(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())),
    }
}

fn node(name: &str, address: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "resourceVersion": version.to_string()},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

fn list(version: u32, items: &[Value]) -> Answer {
    Answer::Json(json!({
        "apiVersion": "v1", "kind": "NodeList",
        "metadata": {"resourceVersion": version.to_string()}, "items": items,
    }))
}

fn modified(object: Value) -> Value {
    json!({"type": "MODIFIED", "object": object})
}

/// Follows Nodes, and what comes of it.
struct Watched {
    events: BoxStream<'static, Event>,
    objects: Objects,
}

impl Watched {
    fn nodes(client: &Client) -> Self {
        Self {
            events: follow(
                cluster(client),
                Kind::Node,
                watcher::Config::default(),
                super::node,
            ),
            objects: Objects::new(&[Kind::Node], None),
        }
    }

    /// Takes events in until `holds`; says how many of them made a difference.
    async fn until(&mut self, holds: impl Fn(&Update) -> bool) -> usize {
        let mut differences = 0;
        let all = async {
            while !holds(&self.objects.update(UnixTime::now())) {
                let event = self.events.next().await.expect("a watch never ends");
                differences += usize::from(self.objects.take_in(event));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all)
            .await
            .expect("it comes in time");
        differences
    }
}

fn addresses(update: &Update) -> Vec<(String, String)> {
    let nodes = update.snapshot.nodes.iter();
    nodes
        .map(|(name, node)| (name.clone(), node.addresses[0].to_string()))
        .collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter()
        .map(|(name, address)| ((*name).into(), (*address).into()))
        .collect()
}

#[tokio::test]
async fn an_expired_watch_is_listed_anew_and_only_what_differs_makes_a_difference() {
    let gone = json!({"type": "ERROR", "object": {
        "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"}});
    let (server, client) = Server::start([
        list(10, &[node("a", "192.0.2.1", 1), node("b", "192.0.2.2", 2)]),
        Answer::Watch(vec![modified(node("a", "192.0.2.9", 11)), gone], Then::Close),
        list(20, &[node("a", "192.0.2.9", 11), node("c", "192.0.2.3", 15)]),
    ])
    .await;
    let mut watched = Watched::nodes(&client);
    let first = watched.until(|update| update.in_sync).await;
    assert_eq!(first, 3, "two objects, and that it is complete");
    watched
        .until(|update| addresses(update)[0].1 == "192.0.2.9")
        .await;
    let wanted = pairs(&[("a", "192.0.2.9"), ("c", "192.0.2.3")]);
    let again = watched.until(|update| addresses(update) == wanted).await;
    assert!(again <= 4, "a is as it was: {again}");
    let update = watched.objects.update(UnixTime::now());
    assert!(
        update.in_sync && update.unreachable.is_none(),
        "{:?}",
        update.unreachable
    );
    assert_eq!(
        server
            .asked()
            .iter()
            .filter(|uri| !uri.contains("watch="))
            .count(),
        2
    );
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_from_where_it_was_without_a_list() {
    let (server, client) = Server::start([
        list(10, &[node("a", "192.0.2.1", 1)]),
        Answer::Watch(vec![modified(node("a", "192.0.2.9", 17))], Then::Close),
        Answer::Watch(vec![modified(node("a", "192.0.2.10", 18))], Then::Wait),
    ])
    .await;
    let mut watched = Watched::nodes(&client);
    watched.until(|update| update.in_sync).await;
    watched
        .until(|update| addresses(update) == pairs(&[("a", "192.0.2.10")]))
        .await;
    let asked = server.asked();
    assert!(asked[2].contains("resourceVersion=17"), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_patience_is_asked_again_when_it_said() {
    let (server, client) = Server::start([Answer::TooMany(1), list(10, &[node("a", "192.0.2.1", 1)])]).await;
    let began = Instant::now();
    let mut watched = Watched::nodes(&client);
    watched.until(|update| update.in_sync).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(server.asked().len(), 2, "not once in between");
}

#[tokio::test]
async fn a_node_with_an_address_that_is_none_is_named_and_its_last_good_version_stays() {
    let (_server, client) = Server::start([
        list(10, &[node("a", "192.0.2.1", 1), node("b", "192.0.2.2", 2)]),
        Answer::Watch(vec![modified(node("a", "nonsense", 11))], Then::Wait),
    ])
    .await;
    let mut watched = Watched::nodes(&client);
    watched.until(|update| !update.problems.is_empty()).await;
    let update = watched.objects.update(UnixTime::now());
    assert_eq!(
        addresses(&update),
        pairs(&[("a", "192.0.2.1"), ("b", "192.0.2.2")])
    );
    let problem = update.problems[0].to_string();
    assert!(problem.starts_with("Node a: status.addresses[0]"), "{problem}");
}

#[tokio::test]
async fn a_mesh_of_a_later_version_is_named_and_hides_no_other_object() {
    let mesh = |enforcer: &str, version: &str| {
        json!({
            "apiVersion": "hauberk.dev/v1alpha1", "kind": "Mesh",
            "metadata": {"name": "default", "resourceVersion": version},
            "spec": {"policy": {"enforcer": enforcer}},
        })
    };
    let (_server, client) = Server::start([
        list(10, &[mesh("Hauberk", "1")]),
        Answer::Watch(vec![modified(mesh("Quantum", "11"))], Then::Wait),
    ])
    .await;
    let mut watched = Watched {
        events: follow(
            cluster(&client),
            Kind::Mesh,
            watcher::Config::default(),
            super::mesh,
        ),
        objects: Objects::new(&[Kind::Mesh], None),
    };
    watched.until(|update| !update.problems.is_empty()).await;
    let update = watched.objects.update(UnixTime::now());
    assert!(
        update.problems[0].to_string().contains("Quantum"),
        "{:?}",
        update.problems
    );
    assert_eq!(
        update
            .snapshot
            .mesh
            .as_ref()
            .unwrap()
            .spec
            .policy
            .enforcer()
            .name(),
        "Hauberk"
    );
}
