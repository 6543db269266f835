//! A request that waits for its model can be ended, too: no engine has given it a number yet.

use std::time::Duration;

use super::Models;
use crate::serve::api_error::ApiError;

/// How often is looked whether it is ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Models {
    /// What a request waits for, unless the request is ended first: by a stop, the privacy switch, heat.
    pub(super) async fn unless_ended<T>(
        &self,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let number = self.restraint().submit();
        let ended = async {
            loop {
                if let Some(why) = self.restraint().ends(number) {
                    return why;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let done = tokio::select! {
            why = ended => return Err(why.into()),
            done = work => done,
        };
        match self.restraint().ends(number) {
            Some(why) => Err(why.into()),
            None => done,
        }
    }
}
