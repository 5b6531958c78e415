/** The way from page to page: a rail at the left, on a phone a bar at the bottom. */
import { ActionIcon, Menu, Tooltip, useComputedColorScheme, useMantineColorScheme } from '@mantine/core'
import { IconBolt, IconDots, IconLogout, IconMoon, IconSun } from '@tabler/icons-react'
import { Link, useLocation } from 'wouter'
import { del, forgetCsrfToken } from '../api/client'
import { ROUTES } from '../routes'
import { words } from '../words'

const BAR = 4

export function Rail({ leave }: { leave: () => void }) {
  const [location] = useLocation()
  const here = ROUTES.find((one) => one.under === (location.split('/')[1] || 'workflows'))?.under
  const shown = ROUTES.filter((one) => one.rail)
  return (
    <nav className="rail" aria-label={words.nav.main}>
      <Link href="/" className="logo" aria-label={words.app}>
        <IconBolt size={20} />
      </Link>
      {shown.map(({ path, under, rail }, i) => {
        if (!rail) return null
        const Icon = rail.icon
        return (
          <Tooltip key={path} label={rail.title} position="right">
            <Link
              href={path}
              aria-current={under === here ? 'page' : undefined}
              aria-label={rail.title}
              className={i >= BAR ? 'beyond' : ''}
            >
              <Icon size={20} stroke={1.7} />
              <span>{rail.title}</span>
            </Link>
          </Tooltip>
        )
      })}
      <More leave={leave} beyond={shown.slice(BAR)} />
      <Theme />
    </nav>
  )
}

function More({ leave, beyond }: { leave: () => void; beyond: typeof ROUTES }) {
  const [, go] = useLocation()
  const signOut = async () => {
    await del('/v1/session').catch(() => {})
    forgetCsrfToken()
    leave()
  }
  return (
    <Menu position="right-end" withArrow>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size={40} className="menu" aria-label={words.nav.more}>
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
        size={40}
        className="theme"
        aria-label={label}
        onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}
      >
        {scheme === 'dark' ? <IconSun size={19} /> : <IconMoon size={19} />}
      </ActionIcon>
    </Tooltip>
  )
}
