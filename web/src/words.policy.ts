/** The names of a policy's fields in its form; the server has the sentences. */
export const policyWords = {
  title: 'Policy',
  about: (version: number) => `version ${version}, in force`,
  nothing: 'This wallet may do nothing yet. Add what it may do.',
  edit: 'Change policy',
  pending: 'A looser policy takes effect',
  pendingAbout: 'Until then the policy above is in force. Saving another one cancels it.',
  history: 'Earlier versions',
  looser: 'loosens',
  stricter: 'does not loosen',
  neverEffective: 'cancelled',
  review: 'Review the change',
  save: 'Save policy',
  saveAsk: 'Save this policy?',
  saveAbout:
    'What makes the policy stricter takes effect at once. What loosens it takes effect after the delay configured on the server.',
  back: 'Keep editing',
  same: 'Nothing changes.',
  added: 'new',
  removed: 'gone',
  form: 'Form',
  text: 'Sentences',
  textLabel: 'Write it in sentences, one a line',
  textAbout:
    'on ethereum · pay 0x… up to $2,000 a month · swap up to $500 a day on uniswap · spend up to $3,000 a day · ask above $100',
  textRest: 'These stay as they are; change them in the form or in the JSON:',
  notUnderstood: 'Not understood. Nothing is saved until every line is:',
  line: (number: number) => `Line ${number}`,
  json: 'JSON',
  jsonLabel: 'The policy as JSON',
  notJson: 'This is not JSON:',
  perLine: 'One per line.',
  chains: { label: 'Chains', about: 'Ids, one per line; * allows every chain.' },
  assets: {
    label: 'Assets',
    about: 'One per line: eip155:1/native, eip155:1/erc20:0x…, eip155:1/* or *.',
  },
  recipients: { label: 'Recipients', about: 'Addresses that may be paid, one per line: 0x… or eip155:1:0x….' },
  contracts: { label: 'Contracts', about: 'Contracts that may be called and may spend, one per line.' },
  methods: {
    label: 'Methods',
    about: 'Signatures, one per line. A condition follows after the word where.',
  },
  limits: {
    label: 'Limits',
    add: 'Add a limit',
    remove: 'Remove this limit',
    none: 'No limit.',
    part: (per: string | null) =>
      per
        ? `Counted for each ${per} by itself; change that in the JSON.`
        : 'Counts only a part of what the wallet does; change that in the JSON.',
  },
  limitKinds: {
    maxUsd: 'US dollars',
    maxUnits: 'units of an asset',
    maxCount: 'transactions',
    maxGasUsd: 'network fees in US dollars',
  } as Record<string, string>,
  limitKind: 'What is limited',
  most: 'At most',
  asset: 'Asset',
  window: 'Within',
  windows: {
    '': 'one transaction',
    '3600000': '1 hour',
    '86400000': '24 hours',
    '604800000': '7 days',
    '2592000000': '30 days',
  } as Record<string, string>,
  gas: { label: 'Fee of one transaction, US dollars', about: 'On every chain. Empty: no ceiling.' },
  approval: { label: 'Ask a person above, US dollars', about: 'Empty: nobody is asked.' },
  newRecipient: { label: 'Hours before a new recipient is paid', about: '0: at once. At most 720.' },
  typedData: {
    label: 'Signing of typed data',
    none: 'Never',
    known: 'Permits and orders whose amounts can be read',
    any: 'Any document',
  },
  switches: {
    allowDeploy: 'May create contracts',
    allowUnlimitedApprovals: 'May give unlimited allowances',
    allowUnverifiedCalldata: 'May make calls that cannot be decoded',
    allowUnpricedAssets: 'May move assets without a price',
  },
  messages: 'May sign plain messages',
  rest: 'Ceilings per chain, allowances and what leaves by balances are in the JSON.',
  say: {
    window: (ms: number) =>
      ms % 86_400_000 === 0 && ms > 86_400_000
        ? `${ms / 86_400_000} days`
        : ms % 3_600_000 === 0
          ? ms === 3_600_000
            ? 'hour'
            : `${ms / 3_600_000} hours`
          : `${ms} ms`,
  },
}
