/** Every page, one line each: where it is, what shows it, and whether the rail has it. */
import {
  IconActivity,
  IconBellRinging,
  IconChecks,
  IconHistory,
  IconKey,
  IconListSearch,
  IconMessages,
  IconPlug,
  IconSitemap,
  IconTable,
  IconWallet,
  IconWebhook,
} from '@tabler/icons-react'
import { type ComponentType, lazy } from 'react'
import { words } from './words'
import { assistant } from './words.assistant'
import { hooks } from './words.hooks'
import { pages } from './words.pages'

export type PageRoute = {
  path: string
  page: ComponentType<{ id: string }>
  /** In the rail, in this order; on a phone the first four and the rest behind "More". */
  rail?: { title: string; icon: ComponentType<{ size?: number; stroke?: number }> }
  /** The first part of the path, which marks the page's place in the rail. */
  under: string
}

export const ROUTES: PageRoute[] = [
  {
    path: '/',
    page: lazy(() => import('./pages/Workflows')),
    under: 'workflows',
    rail: { title: words.nav.workflows, icon: IconSitemap },
  },
  { path: '/templates', page: lazy(() => import('./templates/Templates')), under: 'workflows' },
  { path: '/workflows/:id/versions', page: lazy(() => import('./diff/Versions')), under: 'workflows' },
  { path: '/workflows/:id/forms', page: lazy(() => import('./public/Links')), under: 'workflows' },
  { path: '/workflows/:id', page: lazy(() => import('./pages/Workflow')), under: 'workflows' },
  {
    path: '/runs',
    page: lazy(() => import('./pages/Runs')),
    under: 'runs',
    rail: { title: words.nav.runs, icon: IconHistory },
  },
  { path: '/runs/:id/report', page: lazy(() => import('./pages/Report')), under: 'runs' },
  { path: '/runs/:id', page: lazy(() => import('./pages/Run')), under: 'runs' },
  {
    path: '/approvals',
    page: lazy(() => import('./pages/Approvals')),
    under: 'approvals',
    rail: { title: words.nav.approvals, icon: IconChecks },
  },
  { path: '/approvals/:id', page: lazy(() => import('./pages/Approval')), under: 'approvals' },
  {
    path: '/wallets',
    page: lazy(() => import('./pages/Wallets')),
    under: 'wallets',
    rail: { title: words.nav.wallets, icon: IconWallet },
  },
  { path: '/wallets/:id', page: lazy(() => import('./pages/Wallet')), under: 'wallets' },
  {
    path: '/assistant',
    page: lazy(() => import('./pages/Assistant')),
    under: 'assistant',
    rail: { title: assistant.title, icon: IconMessages },
  },
  { path: '/assistant/:id', page: lazy(() => import('./pages/Assistant')), under: 'assistant' },
  {
    path: '/connectors',
    page: lazy(() => import('./pages/Connectors')),
    under: 'connectors',
    rail: { title: words.nav.connectors, icon: IconPlug },
  },
  { path: '/connectors/:id', page: lazy(() => import('./pages/Connector')), under: 'connectors' },
  {
    path: '/triggers',
    page: lazy(() => import('./triggers/Triggers')),
    under: 'triggers',
    rail: { title: pages.triggers.title, icon: IconBellRinging },
  },
  {
    path: '/hooks',
    page: lazy(() => import('./hooks/Hooks')),
    under: 'hooks',
    rail: { title: hooks.title, icon: IconWebhook },
  },
  { path: '/hooks/:id', page: lazy(() => import('./hooks/Hook')), under: 'hooks' },
  {
    path: '/tables',
    page: lazy(() => import('./pages/Tables')),
    under: 'tables',
    rail: { title: words.nav.tables, icon: IconTable },
  },
  { path: '/tables/:id', page: lazy(() => import('./pages/Rows')), under: 'tables' },
  {
    path: '/keys',
    page: lazy(() => import('./pages/Keys')),
    under: 'keys',
    rail: { title: words.nav.keys, icon: IconKey },
  },
  {
    path: '/audit',
    page: lazy(() => import('./pages/Audit')),
    under: 'audit',
    rail: { title: words.nav.audit, icon: IconListSearch },
  },
  {
    path: '/activity',
    page: lazy(() => import('./pages/Activity')),
    under: 'activity',
    rail: { title: words.nav.activity, icon: IconActivity },
  },
]
