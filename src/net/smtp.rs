//! The way to the mail server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{self, AsyncSmtpTransport};
use lettre::{Address, AsyncTransport, Message, Tokio1Executor};

use super::outbound::{Egress, MOST_ADDRESSES, Purpose};
use crate::config::{Host, SmtpConfig, SmtpTls};

/// A text in plain characters for one person.
pub struct Mail {
    /// Unique; becomes the local part of the Message-ID.
    pub id: String,
    pub name: String,
    pub email: String,
    pub subject: String,
    pub text: String,
    pub written_at: SystemTime,
}

/// Why a mail was not sent, with nothing in it of the mail itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailError {
    /// The server will not have it, now or later.
    Refused(String),
    /// The server will not have it now.
    Deferred(String),
    /// The server cannot be reached or wants another sign-in: no mail can be sent.
    Unreachable(String),
}

pub struct Smtp {
    egress: Arc<Egress>,
    host: String,
    port: u16,
    tls: Tls,
    hello: ClientId,
    credentials: Option<Credentials>,
    /// Host and port, for messages.
    server: String,
    from: Mailbox,
    timeout: Duration,
}

impl Smtp {
    /// `None` where no server is set; `own_name` is what this machine calls itself. Connects to nothing yet.
    ///
    /// # Errors
    /// When the file of authorities cannot be read, or has none.
    pub fn new(settings: &SmtpConfig, egress: Arc<Egress>, own_name: &str) -> Result<Option<Self>, String> {
        let (Some(host), Some(from)) = (&settings.host, &settings.from) else { return Ok(None) };
        // An IPv6 address stands without its brackets here.
        let host = match host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        let tls = match settings.tls {
            SmtpTls::None => Tls::None,
            SmtpTls::Implicit => Tls::Wrapper(trust(settings, &host)?),
            SmtpTls::StartTls => Tls::Required(trust(settings, &host)?),
        };
        let hello = match own_name.parse() {
            Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
            Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
            Err(_) => ClientId::Domain(own_name.into()),
        };
        let credentials = (!settings.username.is_empty())
            .then(|| Credentials::new(settings.username.clone(), settings.password.expose().to_owned()));
        let (port, timeout, from) = (settings.port(), settings.timeout, from.clone());
        let server = format!("{host}, port {port}");
        Ok(Some(Self { egress, host, port, tls, hello, credentials, server, from, timeout }))
    }

    /// Returns once the server has taken the mail upon itself.
    pub async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let recipient = mail.email.clone();
        let message = self.message(mail)?;
        tokio::time::timeout(self.timeout, self.deliver(message, &recipient)).await.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs();
            Err(MailError::Unreachable(format!("{} has not answered within {seconds} s", self.server)))
        })
    }

    /// To the first of the server's addresses that answers.
    async fn deliver(&self, message: Message, recipient: &str) -> Result<(), MailError> {
        let addresses = self.egress.addresses(Purpose::Mail, &self.host).await;
        let mut addresses = addresses.map_err(|why| MailError::Unreachable(why.to_string()))?;
        addresses.truncate(MOST_ADDRESSES);
        let patience = self.timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut failure = MailError::Unreachable(format!("{} has no address", self.server));
        for address in addresses {
            let Err(error) = self.transport(address, patience).send(message.clone()).await else { return Ok(()) };
            let is_silent = error.status().is_none() && !error.is_client() && !error.is_response() && !error.is_tls();
            failure = self.failure(&error, recipient);
            if !is_silent {
                break;
            }
        }
        Err(failure)
    }

    fn transport(&self, address: IpAddr, connect: Duration) -> AsyncSmtpTransport<Tokio1Executor> {
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
            .port(self.port)
            .tls(self.tls.clone())
            .hello_name(self.hello.clone())
            .timeout(Some(connect));
        if let Some(credentials) = &self.credentials {
            transport = transport.credentials(credentials.clone());
        }
        transport.build()
    }

    fn message(&self, mail: Mail) -> Result<Message, MailError> {
        let address = mail.email.parse::<Address>();
        let address =
            address.map_err(|error| MailError::Refused(format!("the e-mail cannot be written to: {error}")))?;
        let id = format!("<{}@{}>", mail.id, self.from.email.domain());
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(mail.name), address))
            .subject(mail.subject)
            .message_id(Some(id))
            .date(mail.written_at)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text);
        message.map_err(|error| MailError::Refused(format!("the mail cannot be written: {error}")))
    }

    /// Servers quote whom they refuse; the log shall not.
    fn failure(&self, error: &smtp::Error, recipient: &str) -> MailError {
        let text = format!("{}: {error}", self.server);
        let reason = reason(&text.replace(recipient, "the recipient"));
        match error.status().map(u16::from) {
            Some(530 | 534 | 535 | 538) => MailError::Unreachable(format!(
                "{reason}. The server refuses the sign-in: check smtp.username and smtp.password"
            )),
            // Some servers tell only at the recipient that they do not let this sender write.
            Some(550..) if is_about_sender(&reason, self.from.email.as_ref()) => {
                MailError::Unreachable(format!("{reason}. The server refuses the sender: check smtp.from"))
            }
            Some(550..) if reason.contains(" 5.7.") => MailError::Deferred(reason),
            Some(550..) => MailError::Refused(reason),
            // It closes down, cannot check the sign-in now, or does not speak with us as we are set.
            Some(421 | 454 | 500..) => MailError::Unreachable(reason),
            Some(_) => MailError::Deferred(reason),
            None if error.is_client() => MailError::Deferred(reason),
            None => MailError::Unreachable(reason),
        }
    }
}

fn trust(settings: &SmtpConfig, host: &str) -> Result<TlsParameters, String> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    parameters = match &settings.ca_file {
        None => parameters.certificate_store(CertificateStore::WebpkiRoots),
        Some(path) => {
            let wrong = |cause: String| format!("smtp.ca_file {}: {cause}", path.display());
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            if !pem.windows(BEGIN.len()).any(|part| part == BEGIN) {
                return Err(wrong("there is no certificate in it".into()));
            }
            let authorities = Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
            parameters.certificate_store(CertificateStore::None).add_root_certificate(authorities)
        }
    };
    parameters.build().map_err(|error| format!("smtp: {error}"))
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Whether a refusal names the sender, or has one of the codes for a sender's address (RFC 3463, 3.2).
fn is_about_sender(reason: &str, from: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains(&from.to_ascii_lowercase()) || reason.contains(" 5.1.7") || reason.contains(" 5.1.8")
}

/// One line of at most 300 characters: a server may say whatever it likes.
fn reason(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
