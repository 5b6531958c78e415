/** Words of a page whose object is not there, by the first part of its address. */
export const missing = {
  about: 'It may have been deleted, or the address is incomplete.',
  of: {
    workflows: { one: 'Workflow', none: 'No such workflow', all: 'All workflows', href: '/workflows' },
    runs: { one: 'Run', none: 'No such run', all: 'All runs', href: '/runs' },
    approvals: { one: 'Approval', none: 'No such approval', all: 'All approvals', href: '/approvals' },
    wallets: { one: 'Wallet', none: 'No such wallet', all: 'All wallets', href: '/wallets' },
    connectors: { one: 'Connector', none: 'No such connector', all: 'All connectors', href: '/connectors' },
    hooks: { one: 'Notice', none: 'No such notice', all: 'All notices', href: '/hooks' },
    tables: { one: 'Table', none: 'No such table', all: 'All tables', href: '/tables' },
    assistant: { one: 'Conversation', none: 'No such conversation', all: 'All conversations', href: '/assistant' },
  },
}
