/** The way from page to page: a rail at the left, on a phone a bar at the bottom. */
import { ActionIcon, Menu, Tooltip, useComputedColorScheme, useMantineColorScheme } from '@mantine/core'
import { useMediaQuery } from '@mantine/hooks'
import {
  IconBolt,
  IconDots,
  IconLayoutSidebarLeftCollapse,
  IconLayoutSidebarLeftExpand,
  IconLogout,
  IconMoon,
  IconSun,
} from '@tabler/icons-react'
import { Fragment, useState } from 'react'
import { Link, useLocation } from 'wouter'
import { del, forgetCsrfToken } from '../api/client'
import { useMe } from '../api/queries'
import { useWaiting } from '../approval/queue'
import { sees } from '../model/rights'
import { ROUTES } from '../routes'
import { words } from '../words'

const BAR = 4
/** `atProvider`: where to sign out at the identity provider too. */
export type Leave = (atProvider: string | null) => void
const KEPT = 'dustrun-rail'

/** Labelled where there is room; whoever wants the room for the canvas makes it narrow, which is remembered. */
function useFolded() {
  const hasRoom = useMediaQuery('(min-width: 1100px)', undefined, { getInitialValueInEffect: false }) ?? true
  const [isChosen, setChosen] = useState(() => localStorage.getItem(KEPT) === 'narrow')
  const toggle = () => {
    localStorage.setItem(KEPT, isChosen ? 'wide' : 'narrow')
    setChosen(!isChosen)
  }
  return { isFolded: isChosen || !hasRoom, hasRoom, toggle }
}

export function Rail({ leave }: { leave: Leave }) {
  const [location] = useLocation()
  const here = ROUTES.find((one) => one.under === (location.split('/')[1] || 'home'))?.under
  const me = useMe().data
  const shown = ROUTES.filter(({ rail }) => rail && sees(me, rail))
  const waiting = useWaiting().count
  const { isFolded, hasRoom, toggle } = useFolded()
  const label = isFolded ? words.nav.unfold : words.nav.fold
  return (
    <nav className={`rail ${isFolded ? 'folded' : ''}`} aria-label={words.nav.main}>
      <Link href="/" className="logo">
        <i>
          <IconBolt size={20} />
        </i>
        <span className="label">
          <b>{words.app}</b>
          <small>{words.nav.about}</small>
        </span>
      </Link>
      {shown.map(({ path, under, rail }, i) => {
        if (!rail) return null
        const Icon = rail.icon
        return (
          <Fragment key={path}>
            {rail.group && rail.group !== shown[i - 1]?.rail?.group && (
              <span className="group label" aria-hidden>
                {rail.group}
              </span>
            )}
            <Tooltip label={rail.title} position="right" disabled={!isFolded}>
              <Link href={path} aria-current={under === here ? 'page' : undefined} className={i >= BAR ? 'beyond' : ''}>
                <Icon size={20} stroke={1.7} />
                <span className="label">{rail.title}</span>
                {under === 'approvals' && Number.parseInt(waiting, 10) > 0 && (
                  <b className="count">
                    {waiting}
                    <span className="said"> {words.nav.waiting}</span>
                  </b>
                )}
              </Link>
            </Tooltip>
          </Fragment>
        )
      })}
      <Who />
      <div className="tools">
        <More leave={leave} beyond={shown.slice(BAR)} />
        <Theme />
        <Tooltip label={label} position="right">
          <ActionIcon
            hidden={!hasRoom}
            variant="subtle"
            color="gray"
            size={36}
            className="folder"
            aria-label={label}
            onClick={toggle}
          >
            {isFolded ? <IconLayoutSidebarLeftExpand size={19} /> : <IconLayoutSidebarLeftCollapse size={19} />}
          </ActionIcon>
        </Tooltip>
      </div>
    </nav>
  )
}

/** Whose session this is. */
function Who() {
  const me = useMe().data
  if (!me?.keyName) return null
  return (
    <span className="who label" title={me.organizationName ?? undefined}>
      <i aria-hidden>{initialsOf(me.keyName)}</i>
      <span>
        <b dir="auto">{me.keyName}</b>
        <small dir="auto">{me.organizationName}</small>
      </span>
    </span>
  )
}

const initialsOf = (name: string) =>
  name
    .split(/[\s_-]+/)
    .slice(0, 2)
    .map((word) => word.slice(0, 1).toUpperCase())
    .join('')

function More({ leave, beyond }: { leave: Leave; beyond: typeof ROUTES }) {
  const [, go] = useLocation()
  const signOut = async () => {
    const ended = await del('/v1/session').catch(() => null)
    forgetCsrfToken()
    leave(ended?.providerUrl ?? null)
  }
  return (
    <Menu position="right-end" withArrow>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size={36} className="menu" aria-label={words.nav.more}>
          <IconDots size={20} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {beyond.map(({ path, rail }) => (
          <Menu.Item key={path} className="onlynarrow" onClick={() => go(path)}>
            {rail?.title}
          </Menu.Item>
        ))}
        <Menu.Item leftSection={<IconLogout size={16} />} onClick={signOut}>
          {words.signIn.out}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  )
}

export function Theme() {
  const { setColorScheme } = useMantineColorScheme()
  const scheme = useComputedColorScheme('light')
  const label = scheme === 'dark' ? words.theme.light : words.theme.dark
  return (
    <Tooltip label={label} position="right">
      <ActionIcon
        variant="subtle"
        color="gray"
        size={36}
        className="theme"
        aria-label={label}
        onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}
      >
        {scheme === 'dark' ? <IconSun size={19} /> : <IconMoon size={19} />}
      </ActionIcon>
    </Tooltip>
  )
}
