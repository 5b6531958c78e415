/** Every page, one line each: where it is, what shows it, and whether the rail has it. */
import {
  IconActivity,
  IconBellRinging,
  IconChecks,
  IconHistory,
  IconHome,
  IconKey,
  IconListSearch,
  IconMessages,
  IconPlug,
  IconRobot,
  IconSitemap,
  IconTable,
  IconUserShield,
  IconUsers,
  IconWallet,
  IconWebhook,
} from '@tabler/icons-react'
import type { ComponentType } from 'react'
import { later } from './parts/later'
import { LoadingPage } from './parts/Section'
import { words } from './words'

type Shown = ComponentType<{ id: string }>
const page = (load: () => Promise<{ default: Shown }>) =>
  later(() => load().then((module) => module.default), <LoadingPage />)

type Rail = {
  title: string
  group?: string
  icon: ComponentType<{ size?: number; stroke?: number }>
  /** Without this permission the page would have nothing to show, and the rail leaves it out. */
  needs?: string
  /** So it does for whoever is limited to some workflows or wallets. */
  whole?: true
}
export type PageRoute = {
  path: string
  page: Shown & { ahead: () => void }
  /** In the rail, in this order; on a phone the first four and the rest behind "More". */
  rail?: Rail
  /** The first part of the path, which marks the page's place in the rail. */
  under: string
}

export const ROUTES: PageRoute[] = [
  {
    path: '/',
    page: page(() => import('./home/Home')),
    under: 'home',
    rail: { title: words.nav.home, icon: IconHome },
  },
  {
    path: '/workflows',
    page: page(() => import('./pages/Workflows')),
    under: 'workflows',
    rail: { title: words.nav.workflows, needs: 'workflow:read', icon: IconSitemap },
  },
  { path: '/templates', page: page(() => import('./templates/Templates')), under: 'workflows' },
  { path: '/workflows/:id/versions', page: page(() => import('./diff/Versions')), under: 'workflows' },
  { path: '/workflows/:id/forms', page: page(() => import('./public/Links')), under: 'workflows' },
  { path: '/workflows/:id', page: page(() => import('./pages/Workflow')), under: 'workflows' },
  {
    path: '/runs',
    page: page(() => import('./pages/Runs')),
    under: 'runs',
    rail: { title: words.nav.runs, needs: 'run:read', icon: IconHistory },
  },
  { path: '/runs/:id/report', page: page(() => import('./pages/Report')), under: 'runs' },
  { path: '/runs/:id', page: page(() => import('./pages/Run')), under: 'runs' },
  {
    path: '/approvals',
    page: page(() => import('./pages/Approvals')),
    under: 'approvals',
    rail: { title: words.nav.approvals, needs: 'run:read', icon: IconChecks },
  },
  { path: '/approvals/:id', page: page(() => import('./pages/Approval')), under: 'approvals' },
  {
    path: '/wallets',
    page: page(() => import('./pages/Wallets')),
    under: 'wallets',
    rail: { title: words.nav.wallets, needs: 'wallet:read', icon: IconWallet },
  },
  { path: '/contracts', page: page(() => import('./pages/Contracts')), under: 'wallets' },
  { path: '/wallets/:id', page: page(() => import('./pages/Wallet')), under: 'wallets' },
  {
    path: '/assistant',
    page: page(() => import('./pages/Assistant')),
    under: 'assistant',
    rail: { title: words.nav.assistant, needs: 'chat:read', icon: IconMessages },
  },
  { path: '/assistant/:id', page: page(() => import('./pages/Assistant')), under: 'assistant' },
  {
    path: '/connectors',
    page: page(() => import('./pages/Connectors')),
    under: 'connectors',
    rail: { title: words.nav.connectors, needs: 'connector:read', group: words.nav.setUp, icon: IconPlug },
  },
  { path: '/connectors/:id', page: page(() => import('./pages/Connector')), under: 'connectors' },
  {
    path: '/triggers',
    page: page(() => import('./triggers/Triggers')),
    under: 'triggers',
    rail: { title: words.nav.triggers, group: words.nav.setUp, icon: IconBellRinging },
  },
  {
    path: '/hooks',
    page: page(() => import('./hooks/Hooks')),
    under: 'hooks',
    rail: { title: words.nav.hooks, group: words.nav.setUp, needs: 'hook:read', icon: IconWebhook },
  },
  { path: '/hooks/:id', page: page(() => import('./hooks/Hook')), under: 'hooks' },
  {
    path: '/tables',
    page: page(() => import('./pages/Tables')),
    under: 'tables',
    rail: { title: words.nav.tables, group: words.nav.setUp, needs: 'table:read', icon: IconTable },
  },
  { path: '/tables/:id', page: page(() => import('./pages/Rows')), under: 'tables' },
  {
    path: '/keys',
    page: page(() => import('./pages/Keys')),
    under: 'keys',
    rail: { title: words.nav.keys, needs: 'key:read', group: words.nav.team, icon: IconKey },
  },
  {
    path: '/people',
    page: page(() => import('./people/People')),
    under: 'people',
    rail: { title: words.nav.people, group: words.nav.team, icon: IconUsers },
  },
  {
    path: '/roles',
    page: page(() => import('./roles/Roles')),
    under: 'roles',
    rail: { title: words.nav.roles, needs: 'key:read', group: words.nav.team, icon: IconUserShield },
  },
  {
    path: '/service-accounts',
    page: page(() => import('./roles/ServiceAccounts')),
    under: 'service-accounts',
    rail: { title: words.nav.accounts, needs: 'key:read', whole: true, group: words.nav.team, icon: IconRobot },
  },
  {
    path: '/audit',
    page: page(() => import('./pages/Audit')),
    under: 'audit',
    rail: { title: words.nav.audit, group: words.nav.team, needs: 'key:read', icon: IconListSearch },
  },
  {
    path: '/activity',
    page: page(() => import('./pages/Activity')),
    under: 'activity',
    rail: { title: words.nav.activity, group: words.nav.team, needs: 'run:stream', icon: IconActivity },
  },
]
