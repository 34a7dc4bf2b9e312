//! The API reference as HTML, from an OpenAPI document: what each endpoint takes, gives and looks like when called.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How deep objects inside objects are shown. Deeper ones exist in nobody's head either.
const DEPTH_MAX: usize = 4;
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// One endpoint of the document.
struct Operation<'a> {
    method: &'static str,
    path: &'a str,
    value: &'a Value,
}

impl Operation<'_> {
    fn text(&self, name: &str) -> &str {
        self.value[name].as_str().unwrap_or_default()
    }

    fn tag(&self) -> &str {
        self.value["tags"][0].as_str().unwrap_or("other")
    }

    fn anchor(&self) -> String {
        match self.text("operationId") {
            "" => format!("{}{}", self.method, self.path.replace(['/', '{', '}'], "-")),
            id => id.to_owned(),
        }
    }

    fn parameters(&self) -> &[Value] {
        self.value["parameters"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The header that a call needs: its name, what stands before the secret, and the variable that holds it.
    fn credentials(&self) -> Option<[&'static str; 3]> {
        let first = self.value["security"][0].as_object()?.keys().next()?;
        match first.as_str() {
            "session" => Some(["Cookie", "session_token=", "SESSION"]),
            _ => Some(["Authorization", "Bearer ", "BILLHOOK_KEY"]),
        }
    }

    /// The path with its parameters, as in a call.
    fn target(&self) -> String {
        let shown = |parameter: &&Value| {
            parameter["in"] == "query" && (parameter["required"] == true || !parameter["example"].is_null())
        };
        let pair = |parameter: &Value| {
            let example = match &parameter["example"] {
                Value::String(text) => text.clone(),
                Value::Null => "…".to_owned(),
                other => other.to_string(),
            };
            format!("{}={example}", parameter["name"].as_str().unwrap_or_default())
        };
        let pairs: Vec<String> = self.parameters().iter().filter(shown).map(pair).collect();
        if pairs.is_empty() { self.path.to_owned() } else { format!("{}?{}", self.path, pairs.join("&")) }
    }
}

fn all(openapi: &Value) -> Vec<Operation<'_>> {
    let paths = openapi["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            METHODS.iter().filter_map(move |method| Some(Operation { method, path, value: item.get(method)? }))
        })
        .collect()
}

/// The tags of the document in its own order, and what is in none of them.
fn tags<'a>(openapi: &'a Value, operations: &'a [Operation<'a>]) -> Vec<(&'a str, &'a str)> {
    let declared = openapi["tags"].as_array().into_iter().flatten();
    let mut tags: Vec<(&str, &str)> = declared
        .filter_map(|tag| Some((tag["name"].as_str()?, tag["description"].as_str().unwrap_or_default())))
        .collect();
    for operation in operations {
        if !tags.iter().any(|(name, _)| *name == operation.tag()) {
            tags.push((operation.tag(), ""));
        }
    }
    tags
}

/// The list of endpoints, for the side of the page.
pub(super) fn contents(openapi: &Value) -> String {
    let operations = all(openapi);
    let mut out = String::new();
    for (tag, _) in tags(openapi, &operations) {
        let _infallible = write!(out, "<h2>{}</h2>\n<ul>", escaped(tag));
        for operation in operations.iter().filter(|operation| operation.tag() == tag) {
            let name =
                operation.path.rsplit("/billing").next().filter(|rest| !rest.is_empty()).unwrap_or(operation.path);
            let _infallible = write!(
                out,
                "<li><a href=\"/docs#{}\">{}{}</a></li>",
                escaped(&operation.anchor()),
                badge(operation.method),
                escaped(name.trim_start_matches('/'))
            );
        }
        out.push_str("</ul>\n");
    }
    out
}

/// All endpoints, by tag.
pub(super) fn operations(openapi: &Value) -> String {
    let operations = all(openapi);
    let mut out = String::new();
    for (tag, description) in tags(openapi, &operations) {
        let _infallible =
            write!(out, "<h2>{}</h2>\n<p class=\"soft\">{}</p>\n", escaped(&capitalised(tag)), prose(description));
        for operation in operations.iter().filter(|operation| operation.tag() == tag) {
            out.push_str(&section(openapi, operation));
        }
    }
    out
}

fn section(openapi: &Value, operation: &Operation<'_>) -> String {
    let role = match operation.value["x-role"].as_str() {
        Some(role) => format!("<span class=\"role\">{}</span>", escaped(role)),
        None => String::new(),
    };
    format!(
        "<section>\n<h3 id=\"{}\">{}<code>{}</code>{role}</h3>\n<p>{}</p>\n{}{}{}{}{}</section>\n",
        escaped(&operation.anchor()),
        badge(operation.method),
        escaped(operation.path),
        prose(operation.text("summary")),
        paragraph(operation.text("description")),
        parameters(openapi, operation),
        request(openapi, operation),
        samples(openapi, operation),
        responses(openapi, operation),
    )
}

fn badge(method: &str) -> String {
    format!("<span class=\"method {method}\">{}</span>", method.to_uppercase())
}

fn paragraph(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<p class=\"soft\">{}</p>\n", prose(text)) }
}

fn parameters(openapi: &Value, operation: &Operation<'_>) -> String {
    let row = |parameter: &Value| {
        let needed = if parameter["required"] == true { " · required" } else { "" };
        let kind = kind_of(openapi, &parameter["schema"]);
        format!(
            "<tr><td><code>{}</code></td><td>{}{needed}</td><td>{}</td></tr>\n",
            escaped(parameter["name"].as_str().unwrap_or_default()),
            escaped(&format!("{kind}{}", range(&parameter["schema"]))),
            prose(parameter["description"].as_str().unwrap_or_default())
        )
    };
    let rows: String = operation.parameters().iter().map(row).collect();
    table("Parameters", &rows)
}

fn request(openapi: &Value, operation: &Operation<'_>) -> String {
    json_schema(&operation.value["requestBody"])
        .map_or_else(String::new, |schema| table("Body", &members(openapi, schema)))
}

/// The first answer with a JSON body in full, and the statuses of all.
fn responses(openapi: &Value, operation: &Operation<'_>) -> String {
    let answers: Vec<(&String, &Value)> = operation.value["responses"].as_object().into_iter().flatten().collect();
    let good = answers.iter().find(|(status, _)| status.starts_with('2'));
    let schema = good.and_then(|(_, answer)| json_schema(answer));
    let mut out = String::new();
    if let Some(schema) = schema {
        let example = example(openapi, schema, 0);
        let _infallible =
            write!(out, "<h4>Answer</h4>\n{}", code(&serde_json::to_string_pretty(&example).unwrap_or_default()));
        let _infallible = writeln!(
            out,
            "<details><summary>Members of the answer</summary>{}</details>",
            table("", &members(openapi, schema))
        );
    }
    let row = |(status, answer): &(&String, &Value)| {
        let said = answer["description"].as_str().filter(|said| !said.is_empty()).unwrap_or("As above");
        format!("<tr><td>{}</td><td>{}</td></tr>\n", escaped(status), prose(said))
    };
    let rows: String = answers.iter().map(row).collect();
    format!("{out}<details><summary>Statuses</summary><div class=\"wide\"><table>\n{rows}</table></div></details>\n")
}

fn json_schema(holder: &Value) -> Option<&Value> {
    let content = holder["content"].as_object()?;
    content
        .iter()
        .find(|(kind, _)| kind.contains("json") && !kind.contains("problem"))
        .map(|(_, media)| &media["schema"])
}

fn table(title: &str, rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let title = if title.is_empty() { String::new() } else { format!("<h4>{}</h4>\n", escaped(title)) };
    format!(
        "{title}<div class=\"wide\"><table>\n<tr><th>Name</th><th>Type</th><th>Meaning</th></tr>\n{rows}</table></div>\n"
    )
}

/// The members of a schema as rows, objects inside objects with their path: `today.inference`.
fn members(openapi: &Value, schema: &Value) -> String {
    let mut rows = String::new();
    collect(openapi, schema, "", 0, &mut rows);
    rows
}

fn collect(openapi: &Value, schema: &Value, prefix: &str, depth: usize, rows: &mut String) {
    let schema = settled(openapi, schema);
    if depth > DEPTH_MAX {
        return;
    }
    if schema.get("items").is_some() {
        return collect(openapi, &schema["items"], &format!("{prefix}[]"), depth + 1, rows);
    }
    for (name, member) in properties(openapi, schema) {
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{name}");
        let own = member["description"].as_str().or_else(|| settled(openapi, member)["description"].as_str());
        let _infallible = writeln!(
            rows,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
            escaped(&path),
            escaped(&kind_of(openapi, member)),
            prose(own.unwrap_or_default())
        );
        collect(openapi, member, &path, depth + 1, rows);
    }
}

/// The members of an object, those of all its parts included.
fn properties<'a>(openapi: &'a Value, schema: &'a Value) -> Vec<(&'a String, &'a Value)> {
    let own = schema["properties"].as_object().into_iter().flatten();
    let parts = schema["allOf"].as_array().into_iter().flatten();
    own.chain(parts.flat_map(|part| settled(openapi, part)["properties"].as_object().into_iter().flatten())).collect()
}

/// Follows references, and takes the one alternative that is not null.
fn settled<'a>(openapi: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..DEPTH_MAX {
        let choice = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
        schema = match (schema["$ref"].as_str(), choice) {
            (Some(name), _) => openapi.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null),
            (None, Some(choice)) => choice.iter().find(|part| part["type"] != "null").unwrap_or(&Value::Null),
            (None, None) => break,
        };
    }
    schema
}

fn kind_of(openapi: &Value, schema: &Value) -> String {
    let nullable = schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"))
        || [&schema["oneOf"], &schema["anyOf"]]
            .iter()
            .any(|choice| choice.as_array().is_some_and(|parts| parts.iter().any(|part| part["type"] == "null")));
    let schema = settled(openapi, schema);
    let kind = match (&schema["type"], schema.get("items")) {
        (_, Some(items)) => format!("array of {}", kind_of(openapi, items)),
        (Value::String(kind), None) => kind.clone(),
        (Value::Array(kinds), None) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("any").to_owned()
        }
        _ if schema.get("properties").is_some() || schema.get("allOf").is_some() => "object".to_owned(),
        _ => "any".to_owned(),
    };
    let choices: Vec<&str> = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let kind = if choices.is_empty() { kind } else { choices.join(" | ") };
    if nullable { format!("{kind} or null") } else { kind }
}

fn range(schema: &Value) -> String {
    match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(low), Value::Number(high)) => format!(", {low} to {high}"),
        (Value::Number(low), _) => format!(", from {low}"),
        (_, Value::Number(high)) => format!(", up to {high}"),
        _ => String::new(),
    }
}

/// A believable value of a schema: its own example where it has one.
fn example(openapi: &Value, schema: &Value, depth: usize) -> Value {
    let given = |schema: &Value| {
        let first =
            || schema["examples"].as_array().and_then(|all| all.first()).or_else(|| schema["enum"].as_array()?.first());
        schema.get("example").or_else(first).or_else(|| schema.get("default")).cloned()
    };
    if let Some(value) = given(schema) {
        return value;
    }
    let schema = settled(openapi, schema);
    if let Some(value) = given(schema) {
        return value;
    }
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(items) = schema.get("items") {
        return Value::Array(vec![example(openapi, items, depth + 1)]);
    }
    let members = properties(openapi, schema);
    if !members.is_empty() {
        let pairs = members.into_iter().map(|(name, member)| (name.clone(), example(openapi, member, depth + 1)));
        return Value::Object(pairs.collect::<Map<_, _>>());
    }
    match kind_of(openapi, schema).trim_end_matches(" or null") {
        "string" if schema["format"] == "date-time" => "2026-11-22T10:00:00Z".into(),
        "string" => "…".into(),
        "integer" | "number" => 0.into(),
        "boolean" => false.into(),
        "object" => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn samples(openapi: &Value, operation: &Operation<'_>) -> String {
    let body = json_schema(&operation.value["requestBody"]).map(|schema| example(openapi, schema, 0).to_string());
    let body = body.as_deref();
    let kinds = [
        ("curl", curl(operation, body)),
        ("Python", python(operation, body)),
        ("TypeScript", typescript(operation, body)),
    ];
    let name = escaped(&operation.anchor());
    let sample = |(index, (title, text)): (usize, &(&str, String))| {
        let open = if index == 0 { " open" } else { "" };
        format!("<details name=\"sample-{name}\"{open}><summary>{title}</summary>{}</details>\n", code(text))
    };
    kinds.iter().enumerate().map(sample).collect()
}

fn curl(operation: &Operation<'_>, body: Option<&str>) -> String {
    let mut out = String::from("curl -s");
    if operation.method != "get" {
        let _infallible = write!(out, " -X {}", operation.method.to_uppercase());
    }
    let _infallible = write!(out, " \"$BILLHOOK{}\"", operation.target());
    if let Some([name, before, variable]) = operation.credentials() {
        let _infallible = write!(out, " \\\n  -H \"{name}: {before}${variable}\"");
    }
    if let Some(body) = body {
        let _infallible = write!(out, " \\\n  --json '{}'", body.replace('\'', r"'\''"));
    }
    out
}

fn python(operation: &Operation<'_>, body: Option<&str>) -> String {
    let mut headers = Vec::new();
    if let Some([name, before, variable]) = operation.credentials() {
        headers.push(format!("\"{name}\": \"{before}\" + os.environ[\"{variable}\"]"));
    }
    if body.is_some() {
        headers.push("\"Content-Type\": \"application/json\"".to_owned());
    }
    let data = body.map_or_else(String::new, |body| format!("    data={}.encode(),\n", Value::from(body)));
    format!(
        "import json, os, urllib.request\n\nrequest = urllib.request.Request(\n    os.environ[\"BILLHOOK\"] + \"{}\",\n{data}    \
         method=\"{}\",\n    headers={{{}}},\n)\nwith urllib.request.urlopen(request) as answer:\n    print(json.load(answer))",
        operation.target(),
        operation.method.to_uppercase(),
        headers.join(", ")
    )
}

fn typescript(operation: &Operation<'_>, body: Option<&str>) -> String {
    let mut headers = Vec::new();
    if let Some([name, before, variable]) = operation.credentials() {
        headers.push(format!("{name}: `{before}${{process.env.{variable}}}`"));
    }
    if body.is_some() {
        headers.push("\"Content-Type\": \"application/json\"".to_owned());
    }
    let data = body.map_or_else(String::new, |body| format!("  body: JSON.stringify({body}),\n"));
    format!(
        "const answer = await fetch(`${{process.env.BILLHOOK}}{}`, {{\n  method: \"{}\",\n  headers: {{ {} }},\n{data}}});\n\
         const value = await answer.json();\nif (!answer.ok) throw new Error(value.code);\nconsole.log(value);",
        operation.target(),
        operation.method.to_uppercase(),
        headers.join(", ")
    )
}

fn code(text: &str) -> String {
    format!("<pre tabindex=\"0\"><code>{}</code></pre>\n", escaped(text))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text as text, in elements and in quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

/// Escaped text in which backticks mark code, as in doc comments.
pub(super) fn prose(text: &str) -> String {
    let mark = |(index, part): (usize, &str)| {
        if index % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) }
    };
    text.split('`').enumerate().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn small() -> Value {
        json!({
            "info": {"title": "Small", "version": "1", "description": "Two <paths>"},
            "tags": [{"name": "things", "description": "All `things`"}],
            "components": {"schemas": {
                "Thing": {"type": "object", "properties": {
                    "amount": {"type": "number", "example": 49.5, "description": "Price"},
                    "parent": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Thing"}]},
                    "state": {"type": "string", "enum": ["on", "off"]},
                    "at": {"type": ["string", "null"], "format": "date-time"}
                }}
            }},
            "paths": {
                "/things": {"get": {
                    "tags": ["things"], "operationId": "things", "summary": "All <script>alert(1)</script>", "x-role": "admin",
                    "security": [{"session": []}],
                    "parameters": [{"name": "limit", "in": "query", "example": 10, "schema": {"type": "integer", "minimum": 1, "maximum": 100}}],
                    "responses": {"200": {"description": "ok", "content": {"application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}}}}}
                },
                "post": {
                    "requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"name": {"type": "string", "example": "it's"}}}}}},
                    "responses": {"201": {"description": "made"}}
                }}
            }
        })
    }

    #[test]
    fn an_endpoint_is_shown_with_samples_and_members() {
        let html = operations(&small());
        for part in [
            "curl -s &quot;$BILLHOOK/things?limit=10&quot;",
            "session_token=",
            "integer, 1 to 100",
            "<code>[].amount</code></td><td>number</td><td>Price",
            "<code>[].parent</code></td><td>object or null",
            "on | off",
            "string or null",
            "<span class=\"role\">admin</span>",
            "-X POST",
            "2026-11-22T10:00:00Z",
        ] {
            assert!(html.contains(part), "{part} is missing");
        }
        assert!(contents(&small()).contains("/docs#things"));
    }

    #[test]
    fn s20_text_of_the_document_is_text() {
        let html = operations(&small());
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
        assert_eq!(prose("a `b<c` d"), "a <code>b&lt;c</code> d");
        assert!(curl(&all(&small())[1], Some("it's")).contains(r"'it'\''s'"));
    }

    #[test]
    fn a_document_without_anything_is_an_empty_page() {
        assert_eq!((operations(&Value::Null), contents(&json!({}))), (String::new(), String::new()));
    }
}
