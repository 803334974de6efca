/**
 * Auth0 post-login Action: multi-factor authentication for applications that ask for it.
 *
 * An application asks with `acr_values` in its authentication request. Auth0 itself does nothing about that: this
 * Action does. It runs for every login to every application of the tenant, also for silent ones and where a refresh
 * token is exchanged, so an error in it keeps everybody out. That is why it looks before it reads.
 *
 * Which applications may ask: the client ids in the Action's secret CLIENTS_WITH_MFA, separated by commas or spaces; or
 * those listed below, if there is no such secret; or all of them, if there is neither. One that may not ask, or does
 * not, is left alone.
 */

const MULTI_FACTOR = 'http://schemas.openid.net/pape/policies/2007/06/multi-factor';

const CLIENTS_WITH_MFA = [];

function clientsWithMfa(event) {
  const secret = event.secrets?.CLIENTS_WITH_MFA;
  const listed = typeof secret === 'string' ? secret.split(/[\s,]+/).filter(Boolean) : [];
  return listed.length > 0 ? listed : CLIENTS_WITH_MFA;
}

function asksForMfa(event) {
  // Without acr_values in the request there may be no list, and without an interactive login no transaction.
  const asked = event.transaction?.acr_values;
  return Array.isArray(asked) && asked.includes(MULTI_FACTOR);
}

exports.onExecutePostLogin = async (event, api) => {
  const clients = clientsWithMfa(event);
  const mayAsk = clients.length === 0 || clients.includes(event.client?.client_id);
  if (mayAsk && asksForMfa(event)) {
    // A browser that is remembered answers without a second factor, and then amr does not say mfa.
    api.multifactor.enable('any', { allowRememberBrowser: false });
  }
};
