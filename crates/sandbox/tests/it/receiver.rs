//! A webhook endpoint: it keeps what arrives, and answers as it was told.

use ring::hmac;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// One message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub signature: String,
    pub body: Vec<u8>,
}

impl Message {
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The instant that was signed, where the signature is right.
    pub fn signed_at(&self, secret: &str) -> Option<i64> {
        let part = |name: &str| self.signature.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let mut text = format!("{}.", part("t=")).into_bytes();
        text.extend(&self.body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag: Vec<String> = hmac::sign(&key, &text).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        (part("v1=") == tag.concat()).then(|| part("t=").parse().unwrap())
    }
}

#[derive(Clone, Default)]
pub struct Receiver {
    messages: Arc<Mutex<Vec<Message>>>,
    /// Statuses of the next answers; 200 after that.
    statuses: Arc<Mutex<VecDeque<u16>>>,
    address: Option<SocketAddr>,
}

impl Receiver {
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver { address: Some(listener.local_addr().unwrap()), ..Receiver::default() };
        let own = receiver.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                thread::spawn(move || own.converse(stream));
            }
        });
        receiver
    }

    /// `http://127.0.0.1:1234/hook`
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address.unwrap())
    }

    pub fn answer_with(&self, statuses: &[u16]) {
        self.statuses.lock().unwrap().extend(statuses);
    }

    /// Forgets what it was told to answer.
    pub fn answer_well(&self) {
        self.statuses.lock().unwrap().clear();
    }

    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    pub fn events(&self) -> Vec<Value> {
        self.messages().iter().map(Message::event).collect()
    }

    pub fn types(&self) -> Vec<String> {
        self.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    fn converse(&self, stream: TcpStream) {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(message) = read(&mut reader) {
            self.messages.lock().unwrap().push(message);
            let status = self.statuses.lock().unwrap().pop_front().unwrap_or(200);
            let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nok");
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Message> {
    let (mut length, mut signature) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("stripe-signature", value)) => value.clone_into(&mut signature),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Message { signature, body })
}
