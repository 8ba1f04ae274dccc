//! Every method of the crate `xtrace-client`, and its tracing layer, against the server at XTRACE_URL.
//! Prints one line a test: `ok - name` or `not ok - name: reason`.

use chrono::{DateTime, Duration, DurationRound, SecondsFormat, Utc};
use serde_json::{json, Value};
use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Instant;
use tracing_subscriber::layer::SubscriberExt;
use uuid::Uuid;
use xtrace_client::{
    current_trace_id, BatchIngestRequest, Client, MetricPoint, MetricsDailyQuery, MetricsQueryParams,
    ObservationIngest, TraceIngest, TraceListQuery, XtraceLayer,
};

type Outcome = Result<(), String>;

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

fn same<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: got {got:?}, wanted {wanted:?}"))
    }
}

async fn case(name: &str, test: impl Future<Output = Outcome>) {
    match test.await {
        Ok(()) => println!("ok - {name}"),
        Err(why) => println!("not ok - {name}: {}", why.replace('\n', " ")),
    }
}

/// What the tests of one run share: ids and names of its own, so that several runs may use one server.
struct Run {
    client: Client,
    mark: String,
    at: DateTime<Utc>,
    trace: Uuid,
    bare: Uuid,
    span: Uuid,
    generation: Uuid,
}

impl Run {
    fn new(client: Client) -> Self {
        Run {
            client,
            mark: Uuid::new_v4().simple().to_string(),
            // Microseconds are what the server keeps.
            at: (Utc::now() - Duration::minutes(5)).duration_trunc(Duration::microseconds(1)).unwrap(),
            trace: Uuid::new_v4(),
            bare: Uuid::new_v4(),
            span: Uuid::new_v4(),
            generation: Uuid::new_v4(),
        }
    }

    fn whole_trace(&self) -> TraceIngest {
        let mut t = TraceIngest::new(self.trace)
            .with_session_id(format!("session-{}", self.mark))
            .with_turn_id("turn-7")
            .with_run_id("run-9")
            .with_metadata_field("nested", json!({"a": [1, null, "é✓"]}));
        t.timestamp = Some(self.at);
        t.name = Some("agent".into());
        t.input = Some(json!({"question": "2+2?"}));
        t.output = Some(json!("4"));
        t.release = Some("r1".into());
        t.version = Some("v1".into());
        t.user_id = Some(format!("user-{}", self.mark));
        t.tags = vec!["red".into(), format!("run-{}", self.mark)];
        t.public = Some(true);
        t.environment = Some("staging".into());
        t.external_id = Some("ext-1".into());
        t.bookmarked = Some(true);
        t.latency = Some(1.5);
        t.total_cost = Some(0.125);
        t
    }

    fn whole_generation(&self) -> ObservationIngest {
        let mut o = ObservationIngest::new(self.generation, self.trace)
            .with_step_id("step-2")
            .with_parent_step_id("step-1")
            .with_step_type("llm_call");
        o.r#type = Some("GENERATION".into());
        o.name = Some("answer".into());
        o.start_time = Some(self.at + Duration::milliseconds(100));
        o.end_time = Some(self.at + Duration::milliseconds(1100));
        o.completion_start_time = Some(self.at + Duration::milliseconds(400));
        o.model = Some("gpt-4o-mini".into());
        o.model_parameters = Some(json!({"temperature": 0.5, "max_tokens": 50}));
        o.input = Some(json!([{"role": "user", "content": "2+2?"}]));
        o.output = Some(json!({"role": "assistant", "content": "4"}));
        o.level = Some("WARNING".into());
        o.status_message = Some("slow".into());
        o.parent_observation_id = Some(self.span);
        o.prompt_id = Some("p-1".into());
        o.prompt_name = Some("calc".into());
        o.prompt_version = Some("3".into());
        o.prompt_tokens = Some(5);
        o.completion_tokens = Some(7);
        o.total_tokens = Some(12);
        o.calculated_total_cost = Some(0.125);
        o.unit = Some("TOKENS".into());
        o
    }

    async fn healthz(&self) -> Outcome {
        self.client.healthz().await.map_err(text)
    }

    async fn ingest_batch(&self) -> Outcome {
        let mut span = ObservationIngest::new(self.span, self.trace);
        span.r#type = Some("SPAN".into());
        span.name = Some("step".into());
        span.start_time = Some(self.at);
        let batch =
            BatchIngestRequest { trace: Some(self.whole_trace()), observations: vec![span, self.whole_generation()] };
        let answer = self.client.ingest_batch(&batch).await.map_err(text)?;
        same("message", answer.message.as_str(), "Request Successful.")?;
        same("code", answer.code, None)?;

        let bare = BatchIngestRequest { trace: Some(TraceIngest::new(self.bare)), observations: vec![] };
        let answer = self.client.ingest_batch(&bare).await.map_err(text)?;
        same("message of the bare trace", answer.message.as_str(), "Request Successful.")?;

        let answer = self.client.ingest_batch(&BatchIngestRequest::default()).await.map_err(text)?;
        same("message of an empty batch", answer.message.as_str(), "Request Successful.")
    }

    async fn get_trace(&self) -> Outcome {
        let t = self.client.get_trace(self.trace).await.map_err(text)?;
        same("id", t.id, self.trace)?;
        same("timestamp", t.timestamp, self.at)?;
        same("name", t.name.as_deref(), Some("agent"))?;
        same("input", t.input, json!({"question": "2+2?"}))?;
        same("output", t.output, json!("4"))?;
        same("session", t.session_id, Some(format!("session-{}", self.mark)))?;
        same("release", t.release.as_deref(), Some("r1"))?;
        same("version", t.version.as_deref(), Some("v1"))?;
        same("user", t.user_id, Some(format!("user-{}", self.mark)))?;
        same(
            "metadata",
            t.metadata,
            json!({"turn_id": "turn-7", "run_id": "run-9", "nested": {"a": [1, null, "é✓"]}}),
        )?;
        same("tags", t.tags, vec!["red".to_string(), format!("run-{}", self.mark)])?;
        same("public", t.public, true)?;
        same("environment", t.environment.as_str(), "staging")?;
        same("html path", t.html_path, format!("/project/default/traces/{}", self.trace))?;
        same("latency", t.latency, Some(1.5))?;
        same("total cost", t.total_cost, Some(0.125))?;
        same("scores", t.scores.len(), 0)?;
        same("observations", t.observations.len(), 2)?;
        same("first by start time", &t.observations[0]["id"], &json!(self.span.to_string()))?;
        let o = &t.observations[1];
        for (key, wanted) in [
            ("id", json!(self.generation.to_string())),
            ("traceId", json!(self.trace.to_string())),
            ("type", json!("GENERATION")),
            ("name", json!("answer")),
            ("startTime", json!(shown(self.at + Duration::milliseconds(100)))),
            ("endTime", json!(shown(self.at + Duration::milliseconds(1100)))),
            ("completionStartTime", json!(shown(self.at + Duration::milliseconds(400)))),
            ("model", json!("gpt-4o-mini")),
            ("modelParameters", json!({"temperature": 0.5, "max_tokens": 50})),
            ("input", json!([{"role": "user", "content": "2+2?"}])),
            ("output", json!({"role": "assistant", "content": "4"})),
            ("level", json!("WARNING")),
            ("statusMessage", json!("slow")),
            ("parentObservationId", json!(self.span.to_string())),
            ("promptId", json!("p-1")),
            ("promptName", json!("calc")),
            ("promptVersion", json!(3)),
            ("promptTokens", json!(5)),
            ("completionTokens", json!(7)),
            ("totalTokens", json!(12)),
            ("calculatedTotalCost", json!(0.125)),
            ("metadata", json!({"step_id": "step-2", "parent_step_id": "step-1", "step_type": "llm_call"})),
        ] {
            same(key, &o[key], &wanted)?;
        }
        Ok(())
    }

    async fn get_bare_trace(&self) -> Outcome {
        let t = self.client.get_trace(self.bare).await.map_err(text)?;
        same("name", t.name, None)?;
        same("input, output, metadata", (t.input, t.output, t.metadata), (Value::Null, Value::Null, Value::Null))?;
        same("tags", t.tags.len(), 0)?;
        same("environment", t.environment.as_str(), "default")?;
        same("observations", t.observations.len(), 0)
    }

    async fn get_unknown_trace(&self) -> Outcome {
        match self.client.get_trace(Uuid::new_v4()).await {
            Err(xtrace_client::Error::Http(e)) => same("status", e.status().map(|s| s.as_u16()), Some(404)),
            other => Err(format!("no 404 but {other:?}")),
        }
    }

    fn query(&self) -> TraceListQuery {
        TraceListQuery { user_id: Some(format!("user-{}", self.mark)), ..Default::default() }
    }

    async fn list_ids(&self, q: TraceListQuery) -> Result<Vec<Uuid>, String> {
        Ok(self.client.list_traces(&q).await.map_err(text)?.data.iter().map(|t| t.id).collect())
    }

    async fn list_traces(&self) -> Outcome {
        let page = self.client.list_traces(&self.query()).await.map_err(text)?;
        same("page, limit", (page.meta.page, page.meta.limit), (1, 50))?;
        same("items, pages", (page.meta.total_items, page.meta.total_pages), (1, 1))?;
        let t = &page.data[0];
        same("id", t.id, self.trace)?;
        same("timestamp", t.timestamp, self.at)?;
        same("input", t.input.clone(), Some(json!({"question": "2+2?"})))?;
        let mut ids = t.observations.clone();
        ids.sort();
        let mut wanted = vec![self.span.to_string(), self.generation.to_string()];
        wanted.sort();
        same("observations", ids, wanted)?;
        same("scores", t.scores.len(), 0)
    }

    async fn list_by_tags(&self) -> Outcome {
        let mine = format!("run-{}", self.mark);
        for (tags, wanted) in [
            (vec![mine.clone()], vec![self.trace]),
            (vec!["red".to_string(), mine.clone()], vec![self.trace]),
            (vec![mine, "blue".to_string()], vec![]),
        ] {
            let q = TraceListQuery { tags: tags.clone(), ..Default::default() };
            same(&format!("tags {tags:?}"), self.list_ids(q).await?, wanted)?;
        }
        Ok(())
    }

    async fn list_by_all(&self) -> Outcome {
        for (environment, wanted) in [
            (vec!["staging"], vec![self.trace]),
            (vec!["default", "staging"], vec![self.trace]),
            (vec!["default"], vec![]),
        ] {
            let q = TraceListQuery {
                page: Some(1),
                limit: Some(10),
                name: Some("agent".into()),
                session_id: Some(format!("session-{}", self.mark)),
                from_timestamp: Some(self.at),
                to_timestamp: Some(self.at),
                order_by: Some("timestamp.asc".into()),
                version: Some("v1".into()),
                release: Some("r1".into()),
                environment: environment.iter().map(|e| e.to_string()).collect(),
                fields: Some("core".into()),
                ..self.query()
            };
            let page = self.client.list_traces(&q).await.map_err(text)?;
            same(&format!("environment {environment:?}"), page.data.iter().map(|t| t.id).collect(), wanted)?;
            same("no input without io", page.data.iter().any(|t| t.input.is_some()), false)?;
        }
        let q = TraceListQuery { to_timestamp: Some(self.at - Duration::microseconds(1)), ..self.query() };
        same("before its time", self.list_ids(q).await?, vec![])
    }

    async fn metrics_daily(&self) -> Outcome {
        let q = MetricsDailyQuery {
            page: Some(1),
            limit: Some(10),
            trace_name: Some("agent".into()),
            user_id: Some(format!("user-{}", self.mark)),
            tags: vec!["red".into(), format!("run-{}", self.mark)],
            from_timestamp: Some(self.at - Duration::days(1)),
            to_timestamp: Some(Utc::now()),
            version: Some("v1".into()),
            release: Some("r1".into()),
        };
        let page = self.client.metrics_daily(&q).await.map_err(text)?;
        same("days", page.data.len(), 1)?;
        same("items", page.meta.total_items, 1)?;
        let d = &page.data[0];
        same("date", d.date.clone(), self.at.format("%Y-%m-%d").to_string())?;
        same("counts", (d.count_traces, d.count_observations), (1, 2))?;
        same("cost", d.total_cost, 0.125)?;
        let u = &d.usage[0];
        same("model", &u["model"], &json!("gpt-4o-mini"))?;
        same(
            "usage",
            (u["inputUsage"].as_i64(), u["outputUsage"].as_i64(), u["totalUsage"].as_i64()),
            (Some(5), Some(7), Some(12)),
        )?;
        same("usage cost", u["totalCost"].as_f64(), Some(0.125))
    }

    fn metric(&self) -> String {
        format!("gpu_{}", self.mark)
    }

    async fn push_metrics(&self) -> Outcome {
        let minute = (self.at - Duration::minutes(10)).duration_trunc(Duration::minutes(5)).unwrap();
        let mut points = vec![];
        for (second, node, model, value) in [
            (1, "a", "m1", 80.0),
            (2, "a", "m1", 90.0),
            (3, "b", "m1", 10.0),
            (4, "b", "m2", 20.0),
            (61, "a", "m1", 50.0),
        ] {
            points.push(MetricPoint {
                name: self.metric(),
                labels: HashMap::from([("node".into(), node.into()), ("model".into(), model.into())]),
                value,
                timestamp: minute + Duration::seconds(second) + Duration::nanoseconds(123_456_789),
            });
        }
        let answer = self.client.push_metrics(&points).await.map_err(text)?;
        same("message", answer.message.as_str(), "Request Successful.")?;
        let answer = self.client.push_metrics(&[]).await.map_err(text)?;
        same("message of no points", answer.message.as_str(), "Request Successful.")
    }

    fn metrics_query(&self) -> MetricsQueryParams {
        MetricsQueryParams {
            name: self.metric(),
            from: Some(self.at - Duration::hours(2)),
            to: Some(Utc::now()),
            ..Default::default()
        }
    }

    async fn query_metrics(&self) -> Outcome {
        let answer = self.client.query_metrics(&self.metrics_query()).await.map_err(text)?;
        same("series", answer.meta.series_count, 3)?;
        same("truncated", answer.meta.truncated, false)?;
        let newest = answer.meta.latest_ts.ok_or("no latest_ts")?;
        DateTime::parse_from_rfc3339(&newest).map_err(text)?;

        let only = MetricsQueryParams {
            labels: Some(HashMap::from([("node".into(), "a".into())])),
            step: Some("5m".into()),
            agg: Some("max".into()),
            ..self.metrics_query()
        };
        let answer = self.client.query_metrics(&only).await.map_err(text)?;
        same("series of one node", answer.data.len(), 1)?;
        same("labels", &answer.data[0].labels, &json!({"node": "a", "model": "m1"}))?;
        same("values", answer.data[0].values.iter().map(|v| v.value).collect::<Vec<_>>(), vec![90.0])?;
        for v in &answer.data[0].values {
            DateTime::parse_from_rfc3339(&v.timestamp).map_err(text)?;
        }

        // Both ends and the step left to the server: the last hour by minutes.
        let plain = MetricsQueryParams { name: self.metric(), agg: Some("p50".into()), ..Default::default() };
        let answer = self.client.query_metrics(&plain).await.map_err(text)?;
        let a = answer.data.iter().find(|s| s.labels["node"] == "a").ok_or("no series of node a")?;
        same("medians", a.values.iter().map(|v| v.value).collect::<Vec<_>>(), vec![85.0, 50.0])?;

        let none = MetricsQueryParams { name: "no_such_metric".into(), ..Default::default() };
        let answer = self.client.query_metrics(&none).await.map_err(text)?;
        same("unknown metric", (answer.data.len(), answer.meta.series_count, answer.meta.latest_ts), (0, 0, None))
    }

    async fn query_grouped(&self) -> Outcome {
        let q = MetricsQueryParams {
            group_by: Some("model".into()),
            step: Some("5m".into()),
            agg: Some("sum".into()),
            ..self.metrics_query()
        };
        let answer = self.client.query_metrics(&q).await.map_err(text)?;
        let got: Vec<_> = answer.data.iter().map(|s| (s.labels.clone(), s.values[0].value)).collect();
        same("groups", got, vec![(json!({"model": "m1"}), 230.0), (json!({"model": "m2"}), 20.0)])
    }

    async fn list_metric_names(&self) -> Outcome {
        let names = self.client.list_metric_names().await.map_err(text)?;
        let mut sorted = names.clone();
        sorted.sort();
        same("sorted", &names, &sorted)?;
        same("listed", names.contains(&self.metric()), true)
    }

    /// Events and spans through the layer, then their samples as the server has them.
    async fn layer(&self) -> Outcome {
        let tokens = format!("tokens_{}", self.mark);
        let session = format!("s-{}", self.mark);
        let explicit = Uuid::new_v4();
        let (root_trace, child_trace);
        {
            let subscriber = tracing_subscriber::registry().with(XtraceLayer::new(self.client.clone()));
            let _guard = tracing::subscriber::set_default(subscriber);
            let root = tracing::info_span!("clients_root");
            {
                let _in_root = root.enter();
                root_trace = current_trace_id().ok_or("no trace id in a root span")?;
                tracing::info!(
                    metric = tokens.as_str(),
                    value = 100,
                    model = "m1",
                    session_id = session.as_str(),
                    other = "x"
                );
                tracing::info!(metric = tokens.as_str(), value = 2.5, model = "m2", session_id = session.as_str());
                tracing::info!("no metric in this one");
                let child = tracing::info_span!("clients_child");
                let _in_child = child.enter();
                child_trace = current_trace_id().ok_or("no trace id in a child span")?;
            }
            drop(root);
            let named = explicit.to_string();
            let given = tracing::info_span!("clients_given", trace_id = named.as_str());
            given.in_scope(|| same("explicit trace id", current_trace_id(), Some(explicit)))?;
        }
        same("child inherits", child_trace, root_trace)?;

        // The layer posts from a thread of its own, at most half a second later; nothing tells when.
        let until = Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match self.layer_arrived(&tokens, &session, root_trace, explicit).await {
                Err(_) if Instant::now() < until => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                last => return last,
            }
        }
    }

    async fn layer_arrived(&self, tokens: &str, session: &str, root: Uuid, explicit: Uuid) -> Outcome {
        let q = MetricsQueryParams { name: tokens.into(), agg: Some("last".into()), ..Default::default() };
        let answer = self.client.query_metrics(&q).await.map_err(text)?;
        let mut got: Vec<_> = answer.data.iter().map(|s| (s.labels.clone(), s.values[0].value)).collect();
        got.sort_by(|a, b| b.1.total_cmp(&a.1));
        let label = |model: &str| json!({"model": model, "session_id": session, "trace_id": root.to_string()});
        same("events", got, vec![(label("m1"), 100.0), (label("m2"), 2.5)])?;

        for (name, trace) in [("clients_root", root), ("clients_child", root), ("clients_given", explicit)] {
            let labels = HashMap::from([
                ("span_name".to_string(), name.to_string()),
                ("trace_id".to_string(), trace.to_string()),
            ]);
            let q = MetricsQueryParams { name: "span_duration".into(), labels: Some(labels), ..Default::default() };
            let answer = self.client.query_metrics(&q).await.map_err(text)?;
            same(&format!("series of {name}"), answer.data.len(), 1)?;
            let seconds = answer.data[0].values[0].value;
            if !(0.0..60.0).contains(&seconds) {
                return Err(format!("{name} took {seconds} s"));
            }
        }
        let q = MetricsQueryParams {
            name: "span_duration".into(),
            group_by: Some("span_name".into()),
            agg: Some("p99".into()),
            ..Default::default()
        };
        let answer = self.client.query_metrics(&q).await.map_err(text)?;
        let names: Vec<_> = answer.data.iter().map(|s| s.labels["span_name"].clone()).collect();
        for name in ["clients_root", "clients_child", "clients_given"] {
            same(&format!("{name} among the groups"), names.contains(&json!(name)), true)?;
        }
        Ok(())
    }

    async fn refused_token(&self, base: &str) -> Outcome {
        let client = Client::new(base, "wrong").map_err(text)?;
        match client.list_metric_names().await {
            Err(xtrace_client::Error::Http(e)) => same("status", e.status().map(|s| s.as_u16()), Some(401)),
            other => Err(format!("no 401 but {other:?}")),
        }
    }
}

/// A time as the server prints it: no fraction, or three or six digits.
fn shown(t: DateTime<Utc>) -> String {
    match t.timestamp_subsec_micros() {
        0 => t.to_rfc3339_opts(SecondsFormat::Secs, true),
        n if n % 1000 == 0 => t.to_rfc3339_opts(SecondsFormat::Millis, true),
        _ => t.to_rfc3339_opts(SecondsFormat::Micros, true),
    }
}

#[tokio::main]
async fn main() {
    let base = std::env::var("XTRACE_URL").expect("XTRACE_URL");
    let token = std::env::var("XTRACE_TOKEN").expect("XTRACE_TOKEN");
    let run = Run::new(Client::new(&base, &token).expect("base url"));
    case("healthz", run.healthz()).await;
    case("ingest_batch: all fields, none, nothing", run.ingest_batch()).await;
    case("get_trace: every field as it was sent", run.get_trace()).await;
    case("get_trace: a trace with an id alone", run.get_bare_trace()).await;
    case("get_trace: unknown is 404", run.get_unknown_trace()).await;
    case("list_traces", run.list_traces()).await;
    case("list_traces: repeated tags", run.list_by_tags()).await;
    case("list_traces: all parameters, repeated environment", run.list_by_all()).await;
    case("metrics_daily", run.metrics_daily()).await;
    case("push_metrics", run.push_metrics()).await;
    case("query_metrics", run.query_metrics()).await;
    case("query_metrics: group_by", run.query_grouped()).await;
    case("list_metric_names", run.list_metric_names()).await;
    case("XtraceLayer: events and span durations arrive", run.layer()).await;
    case("a wrong token is 401", run.refused_token(&base)).await;
}
