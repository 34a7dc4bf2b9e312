//! Expressions of metrics: arithmetic over an event's properties, evaluated when the event arrives.

use super::asked::scalar;
use super::decimal::{Decimal, Rounding};
use super::events::Event;

/// Places that a quotient is computed to.
const QUOTIENT_PLACES: u32 = 15;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Number(String),
    Text(String),
    Name(String),
    Sign(char),
}

#[derive(Debug)]
pub(super) enum Node {
    Number(Decimal),
    Text(String),
    Variable(String),
    Binary(char, Box<Node>, Box<Node>),
    Negative(Box<Node>),
    Call(String, Vec<Node>),
}

#[derive(Debug, Clone)]
enum Value {
    Number(Decimal),
    Text(String),
}

impl Value {
    fn number(self) -> Result<Decimal, String> {
        match self {
            Value::Number(number) => Ok(number),
            Value::Text(text) => Decimal::plain(&text).map_err(|_| format!("\"{text}\" is not a number")),
        }
    }

    fn text(self) -> String {
        match self {
            Value::Number(number) => number.text().trim_end_matches(".0").to_owned(),
            Value::Text(text) => text,
        }
    }
}

/// The result for an event, as text. Errors: what does not work out, in words.
pub(super) fn evaluate(expression: &str, event: &Event) -> Result<String, String> {
    value(&parse(expression)?, event).map(Value::text)
}

/// Errors: what cannot be read.
pub(super) fn parse(expression: &str) -> Result<Node, String> {
    let mut reader = Reader { tokens: tokens(expression)?, at: 0 };
    let node = reader.sum()?;
    match reader.peek() {
        None => Ok(node),
        Some(token) => Err(format!("unexpected {token:?}")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '0'..='9' => rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()),
            'a'..='z' | 'A'..='Z' | '_' => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len())
            }
            '\'' | '"' => rest[1..].find(first).ok_or("a text has no end")? + 2,
            '+' | '-' | '*' | '/' | '(' | ')' | ',' => 1,
            other => return Err(format!("unexpected {other:?}")),
        };
        let (token, after) = rest.split_at(taken);
        tokens.push(match first {
            '0'..='9' => Token::Number(token.to_owned()),
            '\'' | '"' => Token::Text(token[1..taken - 1].to_owned()),
            '+' | '-' | '*' | '/' | '(' | ')' | ',' => Token::Sign(first),
            _ => Token::Name(token.to_owned()),
        });
        rest = after.trim_start();
    }
    Ok(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned()
    }

    fn take(&mut self, signs: &[char]) -> Option<char> {
        match self.peek() {
            Some(Token::Sign(sign)) if signs.contains(sign) => {
                let sign = *sign;
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn sum(&mut self) -> Result<Node, String> {
        let mut left = self.product()?;
        while let Some(sign) = self.take(&['+', '-']) {
            left = Node::Binary(sign, Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Node, String> {
        let mut left = self.factor()?;
        while let Some(sign) = self.take(&['*', '/']) {
            left = Node::Binary(sign, Box::new(left), Box::new(self.factor()?));
        }
        Ok(left)
    }

    fn factor(&mut self) -> Result<Node, String> {
        match self.next() {
            Some(Token::Sign('-')) => Ok(Node::Negative(Box::new(self.factor()?))),
            Some(Token::Sign('(')) => {
                let within = self.sum()?;
                self.take(&[')']).map(|_| within).ok_or_else(|| "a bracket has no end".to_owned())
            }
            Some(Token::Number(text)) => {
                Decimal::plain(&text).map(Node::Number).map_err(|_| format!("{text} is not a number"))
            }
            Some(Token::Text(text)) => Ok(Node::Text(text)),
            Some(Token::Name(name)) if self.take(&['(']).is_some() => Ok(Node::Call(name, self.arguments()?)),
            Some(Token::Name(name)) => Ok(Node::Variable(name)),
            Some(Token::Sign(sign)) => Err(format!("unexpected {sign:?}")),
            None => Err("it ends too early".to_owned()),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Node>, String> {
        let mut all = vec![self.sum()?];
        while self.take(&[',']).is_some() {
            all.push(self.sum()?);
        }
        self.take(&[')']).map(|_| all).ok_or_else(|| "a bracket has no end".to_owned())
    }
}

fn value(node: &Node, event: &Event) -> Result<Value, String> {
    let too_long = |_| "the sandbox computes with 38 digits at most".to_owned();
    Ok(match node {
        Node::Number(number) => Value::Number(*number),
        Node::Text(text) => Value::Text(text.clone()),
        Node::Variable(name) => variable(name, event)?,
        Node::Negative(node) => Value::Number(Decimal::ZERO.minus(value(node, event)?.number()?).map_err(too_long)?),
        Node::Binary(sign, left, right) => {
            let (left, right) = (value(left, event)?.number()?, value(right, event)?.number()?);
            Value::Number(match sign {
                '+' => left.plus(right).map_err(too_long)?,
                '-' => left.minus(right).map_err(too_long)?,
                '*' => left.times(right).map_err(too_long)?,
                _ => {
                    let quotient = left.over(right, QUOTIENT_PLACES, Rounding::HalfUp).map_err(too_long)?;
                    quotient.ok_or("division by zero")?
                }
            })
        }
        Node::Call(name, arguments) => called(name, arguments, event)?,
    })
}

fn called(name: &str, arguments: &[Node], event: &Event) -> Result<Value, String> {
    let mut values = arguments.iter().map(|node| value(node, event)).collect::<Result<Vec<_>, _>>()?.into_iter();
    if name == "concat" {
        return Ok(Value::Text(values.map(Value::text).collect()));
    }
    let rounding = match name {
        "round" => Rounding::HalfUp,
        "ceil" => Rounding::Up,
        "floor" => Rounding::Down,
        _ => return Err(format!("unknown function {name}")),
    };
    let number = values.next().map_or(Ok(Decimal::ZERO), Value::number)?;
    let places =
        values.next().map(Value::text).map_or(Ok(0), |text| text.parse()).map_err(|_| "places are a whole number")?;
    number
        .rounded(places, rounding)
        .map(Value::Number)
        .map_err(|_| "the sandbox computes with 38 digits at most".to_owned())
}

fn variable(name: &str, event: &Event) -> Result<Value, String> {
    let found = match name {
        "event.code" => Some(event.code.to_string()),
        "event.timestamp" => Some(event.at.div_euclid(super::instant::SECOND).to_string()),
        _ => name.strip_prefix("event.properties.").and_then(|name| event.property(name)).and_then(scalar),
    };
    found
        .map(Value::Text)
        .ok_or_else(|| format!("Variable: {} not found", name.trim_start_matches("event.properties.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions() {
        let event = Event {
            transaction_id: "t".into(),
            subscription: None,
            code: "gpu".into(),
            at: 5_000_000,
            created_at: 0,
            precise_total_amount_cents: None,
            properties: [("a".into(), json!("7.5")), ("b".into(), json!(2))].into(),
            deleted: false,
        };
        for (expression, wanted) in [
            ("event.properties.a * event.properties.b + 1", Ok("16")),
            ("-(event.properties.a - 0.5) / 2", Ok("-3.5")),
            ("round(1 / 3, 2)", Ok("0.33")),
            ("ceil(event.properties.a)", Ok("8")),
            ("concat(event.code, '-', event.timestamp)", Ok("gpu-5")),
            ("event.properties.c * 2", Err("Variable: c not found")),
            ("event.code * 2", Err("\"gpu\" is not a number")),
            ("1 / 0", Err("division by zero")),
            ("1 +", Err("it ends too early")),
            ("(1", Err("a bracket has no end")),
            ("what(1)", Err("unknown function what")),
        ] {
            let found = evaluate(expression, &event);
            assert_eq!(found.as_deref().map_err(String::as_str), wanted, "{expression}");
        }
    }
}
