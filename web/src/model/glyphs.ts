/** The picture of a node type. */
import {
  IconArrowsExchange,
  IconArrowsSplit2,
  IconBell,
  IconBolt,
  IconBook2,
  IconCalendar,
  IconClock,
  IconCode,
  IconCoin,
  IconDatabase,
  IconFileText,
  IconHandStop,
  IconPlayerPlay,
  IconRepeat,
  IconSend,
  IconSignature,
  IconUserCheck,
  IconWebhook,
  IconWorld,
} from '@tabler/icons-react'
import type { ComponentType } from 'react'

type Glyph = ComponentType<{ size?: number; stroke?: number }>
const EXACT: Record<string, Glyph> = {
  if: IconArrowsSplit2,
  switch: IconArrowsSplit2,
  'for-each': IconRepeat,
  wait: IconClock,
  delay: IconClock,
  approve: IconUserCheck,
  stop: IconHandStop,
  log: IconFileText,
  manual: IconPlayerPlay,
  cronjob: IconCalendar,
  schedule: IconCalendar,
  webhook: IconWebhook,
  notify: IconBell,
}
const PARTS: [string, Glyph][] = [
  ['swap', IconArrowsExchange],
  ['sign', IconSignature],
  ['send', IconSend],
  ['batch', IconSend],
  ['table', IconDatabase],
  ['http', IconWorld],
]
const EFFECTS: Record<string, Glyph> = {
  spend: IconCoin,
  read: IconBook2,
  pure: IconCode,
  write: IconWorld,
  control: IconBolt,
}

export const glyph = (type: string, effect: string): Glyph =>
  EXACT[type] ?? PARTS.find(([part]) => type.includes(part))?.[1] ?? EFFECTS[effect] ?? IconBolt
