//! The agent inside a guest, spoken to over its channel's socket.
//!
//! ```text
//!   ask ──▶ (connect) ──▶ 0xff, guest-sync-delimited ──▶ what is left of earlier answers is passed over
//!                     ◀── 0xff, the number of this sync
//!       ──▶ command
//!       ◀── answer, until the deadline
//! ```
//!
//! The guest is not trusted: an answer is bounded, and one that comes too late or is not understood ends the connection, so
//! that it is never taken for another command's. Commands go one at a time, each after the one before has its answer.
//! Called by [`crate::dispatch`]; which guest has an agent, and whether it is there, is the driver's to know.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// How long the agent may take to say that it is there.
const SYNC_DEADLINE: Duration = Duration::from_secs(5);

/// The longest answer of an agent, in bytes.
const ANSWER_MAX: usize = 10 * 1024 * 1024;

/// Before a message it says: forget what came before.
const DELIMITER: u8 = 0xff;

/// Why the agent has not answered.
#[derive(Debug, Error)]
pub(crate) enum AgentError {
    #[error("cannot reach the guest agent")]
    Io(#[from] io::Error),
    /// It did not say that it is there.
    #[error("guest agent didn't respond to synchronization within '{}' seconds", SYNC_DEADLINE.as_secs())]
    Sync,
    /// It is there and does not answer.
    #[error("guest agent didn't respond to command within '{seconds}' seconds")]
    Late {
        /// How long it was waited for.
        seconds: u64,
    },
    /// It closed the channel, or says what no agent says.
    #[error("the guest agent broke off: {0}")]
    Broken(&'static str),
    /// It refused the command.
    #[error("unable to execute QEMU agent command '{command}': {text}")]
    Refused {
        command: String,
        /// Its words.
        text: String,
    },
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it takes.
    Endless,
    Seconds(u64),
}

/// One guest's agent. Made with the guest; connects when it is asked something.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    line: Mutex<Option<Line>>,
}

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    /// Bytes received and not used yet.
    received: Vec<u8>,
    /// The number of the last sync.
    syncs: u64,
}

impl Agent {
    /// Has the agent behind `socket` execute a command; gives its answer, whole.
    ///
    /// # Errors
    /// See [`AgentError`]. After all but a refusal the next command begins with a new connection.
    pub(crate) async fn ask(
        &self,
        socket: &Path,
        command: &Value,
        patience: Patience,
    ) -> Result<Value, AgentError> {
        let mut held = self.line.lock().await;
        let mut line = match held.take() {
            Some(line) => line,
            None => Line { stream: UnixStream::connect(socket).await?, received: Vec::new(), syncs: 0 },
        };
        match tokio::time::timeout(SYNC_DEADLINE, line.sync()).await {
            Err(_) => return Err(AgentError::Sync),
            Ok(outcome) => outcome?,
        }
        let answer = match patience {
            Patience::Endless => line.execute(command).await?,
            Patience::Seconds(seconds) => {
                let limit = Duration::from_secs(seconds);
                let answer = tokio::time::timeout(limit, line.execute(command)).await;
                answer.map_err(|_| AgentError::Late { seconds })??
            }
        };
        *held = Some(line);
        drop(held);
        match answer.get("error") {
            None => Ok(answer),
            Some(error) => {
                let command = command.get("execute").and_then(Value::as_str).unwrap_or_default().to_owned();
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("unknown error").to_owned();
                Err(AgentError::Refused { command, text })
            }
        }
    }
}

impl Agent {
    /// Has the agent behind `socket` do what it does not live to answer: it speaks only to refuse. `done` ends once the guest
    /// shows that it obeys.
    ///
    /// # Errors
    /// See [`AgentError`]; [`AgentError::Late`] when neither an answer nor the end comes within `seconds`.
    pub(crate) async fn tell(
        &self,
        socket: &Path,
        command: &Value,
        done: impl Future<Output = ()>,
        seconds: u64,
    ) -> Result<(), AgentError> {
        let limit = Duration::from_secs(seconds);
        let mut done = std::pin::pin!(done);
        tokio::select! {
            answer = tokio::time::timeout(limit, self.ask(socket, command, Patience::Endless)) => match answer {
                Err(_) => return Err(AgentError::Late { seconds }),
                Ok(Ok(_)) => return Ok(()),
                // It has gone, as it was told to; the guest shows it in a moment.
                Ok(Err(AgentError::Broken(_))) => {}
                Ok(Err(error)) => return Err(error),
            },
            () = &mut done => return Ok(()),
        }
        tokio::time::timeout(limit, done).await.map_err(|_| AgentError::Late { seconds })
    }
}

impl Line {
    /// Finds the place in the stream where the agent answers to what is asked now.
    async fn sync(&mut self) -> Result<(), AgentError> {
        // A number that an agent did not hear before, also from an earlier daemon.
        let number = (crate::driver::now_ms() << 8 | self.syncs) & 0x7fff_ffff_ffff;
        self.syncs = (self.syncs + 1) & 0xff;
        let sync = json!({"execute": "guest-sync-delimited", "arguments": {"id": number}});
        self.stream.write_all(&[DELIMITER]).await?;
        self.send(&sync).await?;
        loop {
            let line = self.line().await?;
            // Whatever stands before the delimiter is an earlier command's.
            let after = line.rsplit(|byte| *byte == DELIMITER).next().unwrap_or_default();
            let answer: Option<Value> = serde_json::from_slice(after).ok();
            if answer.is_some_and(|answer| answer.get("return") == Some(&Value::from(number))) {
                return Ok(());
            }
        }
    }

    async fn execute(&mut self, command: &Value) -> Result<Value, AgentError> {
        self.send(command).await?;
        loop {
            let line = self.line().await?;
            let answer: Value =
                serde_json::from_slice(&line).map_err(|_| AgentError::Broken("it sent no JSON"))?;
            if answer.get("return").is_some() || answer.get("error").is_some() {
                return Ok(answer);
            }
            // Anything else is a notice; agents send none yet.
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), AgentError> {
        let mut bytes = message.to_string().into_bytes();
        bytes.push(b'\n');
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// The next line that is not empty.
    async fn line(&mut self) -> Result<Vec<u8>, AgentError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.received, rest);
                searched = 0;
                match line.trim_ascii() {
                    [] => continue,
                    line => return Ok(line.to_owned()),
                }
            }
            searched = self.received.len();
            if searched > ANSWER_MAX {
                return Err(AgentError::Broken("its answer is too long"));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(AgentError::Broken("it closed the channel"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::net::UnixListener;

    /// An agent that answers each command with the next of `answers`; `None` is silence. It begins with an answer that is
    /// left over from before. Who asks may have gone at any time: then the next one is waited for.
    async fn agent(
        answers: Vec<Option<&'static str>>,
    ) -> (tempfile::TempDir, std::path::PathBuf, tokio::task::JoinHandle<Vec<String>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let served = tokio::spawn(async move {
            let mut heard = Vec::new();
            let mut answers = answers.into_iter();
            'connections: loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if stream.write_all(b"{\"return\": \"stale\"}\n").await.is_err() {
                    continue;
                }
                let (reader, mut writer) = stream.split();
                let mut lines = BufReader::new(reader).split(b'\n');
                while let Ok(Some(line)) = lines.next_segment().await {
                    let text = line.rsplit(|byte| *byte == DELIMITER).next().unwrap();
                    let asked: Value = serde_json::from_slice(text).unwrap();
                    if asked["execute"] == "guest-sync-delimited" {
                        let answer = format!("\u{0}{}\n", json!({"return": asked["arguments"]["id"]}));
                        let mut answer = answer.into_bytes();
                        answer[0] = DELIMITER;
                        if writer.write_all(&answer).await.is_err() {
                            continue 'connections;
                        }
                        continue;
                    }
                    heard.push(asked["execute"].as_str().unwrap().to_owned());
                    match answers.next() {
                        None => return heard,
                        Some(None) => {}
                        // Whether anybody reads it is the test's to see.
                        Some(Some(answer)) => drop(writer.write_all(answer.as_bytes()).await),
                    }
                    if answers.len() == 0 {
                        break 'connections;
                    }
                }
            }
            heard
        });
        (folder, path, served)
    }

    fn command(name: &str) -> Value {
        json!({"execute": name})
    }

    #[tokio::test]
    async fn answers_belong_to_their_commands_and_leftovers_to_none() {
        let answers = vec![
            Some("{\"return\": {}}\n"),
            Some("\r\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n"),
        ];
        let (_folder, path, served) = agent(answers).await;
        let agent = Agent::default();
        let answer = agent.ask(&path, &command("guest-ping"), Patience::Seconds(20)).await.unwrap();
        assert_eq!(answer, json!({"return": {}}));
        let refused = agent.ask(&path, &command("guest-shutdown"), Patience::Endless).await.unwrap_err();
        assert_eq!(refused.to_string(), "unable to execute QEMU agent command 'guest-shutdown': no");
        assert_eq!(served.await.unwrap(), ["guest-ping", "guest-shutdown"]);
    }

    #[tokio::test]
    async fn an_agent_that_does_not_answer_is_given_up_and_asked_anew() {
        let (_folder, path, served) = agent(vec![None, Some("{\"return\": 7}\n")]).await;
        let agent = Agent::default();
        let late = agent.ask(&path, &command("guest-get-time"), Patience::Seconds(0)).await.unwrap_err();
        assert_eq!(late.to_string(), "guest agent didn't respond to command within '0' seconds");
        let answer = agent.ask(&path, &command("guest-get-time"), Patience::Seconds(20)).await.unwrap();
        assert_eq!(answer, json!({"return": 7}));
        let heard = served.await.unwrap();
        assert!(heard.ends_with(&["guest-get-time".to_owned()]), "{heard:?}");
    }

    #[tokio::test]
    async fn what_an_agent_does_not_live_to_answer_is_done_when_it_shows() {
        let (_folder, path, _served) = agent(vec![None, Some("{\"return\": 7}\n")]).await;
        let agent = Agent::default();
        agent.tell(&path, &command("guest-shutdown"), std::future::ready(()), 20).await.unwrap();
        let late = agent.tell(&path, &command("guest-shutdown"), std::future::pending(), 0).await;
        assert!(matches!(late, Err(AgentError::Late { seconds: 0 })), "{late:?}");
    }

    #[tokio::test]
    async fn what_is_no_agent_is_an_error() {
        let (_folder, path, _) = agent(vec![Some("nonsense\n")]).await;
        let broken = Agent::default().ask(&path, &command("guest-ping"), Patience::Seconds(20)).await;
        assert!(matches!(broken, Err(AgentError::Broken(_))), "{broken:?}");
        let nobody =
            Agent::default().ask(Path::new("/no/such/socket"), &command("x"), Patience::Endless).await;
        assert!(matches!(nobody, Err(AgentError::Io(_))), "{nobody:?}");
    }
}
