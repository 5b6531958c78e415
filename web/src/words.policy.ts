/** The names of a policy's fields in its form; the server has the sentences. */
export const policyWords = {
  title: 'Policy',
  about: (version: number) => `version ${version}, in force`,
  nothing: 'This wallet may do nothing yet. Add what it may do.',
  edit: 'Change policy',
  pending: 'A looser policy takes effect',
  pendingAbout: 'Until then the policy above is in force. Saving another one cancels it.',
  history: 'Earlier versions',
  unsaid: 'No sentence of this policy allows what was refused.',
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

type Outcome = 'allowed' | 'asked' | 'refused'
const WAS: Record<Outcome, string> = { allowed: 'It passed', asked: 'It was asked about', refused: 'It was refused' }
const WOULD: Record<Outcome, string> = {
  allowed: 'it would pass',
  asked: 'it would be asked about',
  refused: 'it would be refused',
}
const UNJUDGED: Record<string, string> = {
  sources: 'what shaped it',
  outflow: 'what it really takes',
  feeAboveUsual: 'an unusual fee',
  fee: 'the network fee',
}
const inWords = (names: string[]) => names.map((name) => UNJUDGED[name] ?? name).join(', ')
type Sum = { judged: number; asBefore: number; nowAllowed: number; nowAsked: number; nowRefused: number }

export const pastWords = {
  title: 'The last 30 days',
  looking: 'Held against the last 30 days…',
  sum: ({ judged, asBefore, nowAllowed, nowAsked, nowRefused }: Sum) =>
    judged === 0
      ? 'In the last 30 days nothing was paid or refused.'
      : `In the last 30 days: ${judged} payment${judged === 1 ? '' : 's'}: ${[
          asBefore === judged ? 'all as before' : `${asBefore} as before`,
          nowAllowed && `${nowAllowed} would have passed`,
          nowAsked && `${nowAsked} would have asked`,
          nowRefused && `${nowRefused} would have been refused`,
        ]
          .filter(Boolean)
          .join(', ')}.`,
  notWhole: (judged: number) => `There were more: these are the newest ${judged}, since`,
  pricedNow: (number: number) =>
    `${number === 1 ? 'One has' : `${number} have`} no price of that time; today’s is used for ${number === 1 ? 'it' : 'them'}.`,
  show: (number: number) => (number === 1 ? 'Show it' : `Show these ${number}`),
  leftOut: (number: number) => `And ${number} more.`,
  change: (was: Outcome, would: Outcome) => `${WAS[was]}; ${WOULD[would]}.`,
  notJudged: (names: string[]) => `Not judged again, but taken as it was then: ${inWords(names)}.`,
}

export const tryWords = {
  title: 'Try a payment',
  amount: 'Amount',
  coin: 'Of',
  recipient: 'To',
  workflow: 'Paid by the workflow (any, if empty)',
  noAmount: 'This is no amount of that coin.',
  go: 'What would happen?',
  outcome: {
    allowed: 'It would pass.',
    asked: 'It would ask a person first.',
    refused: 'It would be refused.',
  } as Record<Outcome, string>,
  noSentence: 'No sentence allows it.',
  nothingDone:
    'Nothing was paid or reserved. The network fee, what shapes the amount and what a transaction really takes are judged when it is made.',
}
