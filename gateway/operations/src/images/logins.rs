//! Which account reads which repository.

use std::sync::Arc;

use config::{Account, Settings};
use parking_lot::Mutex;
use registry::RegistryClient;
use registry::service_account::Tokens;

use super::{AuthFile, ImageName};

/// Where a command finds its logins, in this order: the given account, the files, the service account. Without any, it
/// reads anonymously.
#[derive(Debug, Default)]
pub struct Logins {
    /// The account that the command line names. No other is then used.
    pub given: Option<Account>,
    /// Files of logins.
    pub files: Vec<AuthFile>,
}

/// The tokens of every account that is used.
pub(crate) struct LoggedIn<'a> {
    logins: &'a Logins,
    settings: &'a Settings,
    client: &'a RegistryClient,
    tls: Arc<rustls::ClientConfig>,
    /// One for each account. There are few.
    accounts: Mutex<Vec<(Option<Account>, Arc<Tokens>)>>,
}

impl Logins {
    /// The account that reads an image. `None` reads anonymously.
    ///
    /// # Errors
    /// The login of a file cannot be used.
    fn account(&self, settings: &Settings, image: &ImageName) -> anyhow::Result<Option<Account>> {
        if let Some(given) = &self.given {
            return Ok(Some(given.clone()));
        }
        let own = settings.hostnames().map(String::as_str);
        let hosts: Vec<_> = own.chain([settings.registry_hostname.as_str()]).collect();
        for file in &self.files {
            if let Some(account) = file.login(&hosts, &image.repository)? {
                return Ok(Some(account));
            }
        }
        Ok(settings.account.clone())
    }

    /// Logs in at the gateway behind `client` when an image is read.
    pub(crate) fn at<'a>(
        &'a self,
        settings: &'a Settings,
        client: &'a RegistryClient,
    ) -> anyhow::Result<LoggedIn<'a>> {
        let tls = certificates::client(&settings.ca_files)?;
        Ok(LoggedIn { logins: self, settings, client, tls, accounts: Mutex::default() })
    }
}

impl LoggedIn<'_> {
    /// The tokens of the account that reads an image.
    ///
    /// # Errors
    /// The login of a file cannot be used.
    pub(crate) fn tokens(&self, image: &ImageName) -> anyhow::Result<Arc<Tokens>> {
        let account = self.logins.account(self.settings, image)?;
        let mut accounts = self.accounts.lock();
        if let Some((_, tokens)) = accounts.iter().find(|(known, _)| *known == account) {
            return Ok(Arc::clone(tokens));
        }
        let tokens = Tokens::new(self.client, account.clone(), &self.tls, &self.settings.proxies)?;
        let tokens = Arc::new(tokens);
        accounts.push((account, Arc::clone(&tokens)));
        Ok(tokens)
    }
}
