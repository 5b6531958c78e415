/** Pieces of a page of details: a panel with a title, facts in two columns, and text to copy. */
import { ActionIcon, CopyButton, Tooltip } from '@mantine/core'
import { IconCheck, IconCopy } from '@tabler/icons-react'
import { type ReactNode, useCallback, useId } from 'react'
import { short } from '../model/amounts'
import { words } from '../words'
import { Bones } from './Bones'

/** `at`: the fragment of an address that leads here; `isWide`: all of the width, where others are beside one another. */
type SectionProps = {
  title: string
  at?: string
  isWide?: boolean
  about?: ReactNode
  actions?: ReactNode
  children: ReactNode
}

export function Section({ title, at, isWide, about, actions, children }: SectionProps) {
  const id = useId()
  const come = useCallback((here: HTMLElement | null) => {
    if (here?.id && location.hash === `#${here.id}`) here.scrollIntoView()
  }, [])
  return (
    <section className={isWide ? 'panel across' : 'panel'} aria-labelledby={id} id={at} ref={come}>
      <header>
        <h2 id={id}>{title}</h2>
        {about && <span className="quiet">{about}</span>}
        {actions && <div className="acts">{actions}</div>}
      </header>
      {children}
    </section>
  )
}

/** What has no value is left out. */
export function Facts({ of }: { of: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {of
        .filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== false)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd dir="auto">{value}</dd>
          </div>
        ))}
    </dl>
  )
}

/** A text that is long or secret-free by nature, such as an address: shortened to see, whole to copy. */
export function Copied({ text, whole = false, name }: { text: string; whole?: boolean; name?: string }) {
  return (
    <span className="copied above">
      <code title={text}>{whole ? text : short(text)}</code>
      <CopyButton value={text}>
        {({ copied, copy }) => (
          <Tooltip label={copied ? words.value.copied : words.value.copy}>
            <ActionIcon
              variant="subtle"
              color="gray"
              size={24}
              onClick={copy}
              aria-label={`${words.value.copy} ${name ?? short(text)}`}
            >
              {copied ? <IconCheck size={14} /> : <IconCopy size={14} />}
            </ActionIcon>
          </Tooltip>
        )}
      </CopyButton>
    </span>
  )
}

export const Loading = () => <Bones many={3} />

/** A page of details that has not come yet. */
export const LoadingPage = () => (
  <>
    <header className="top" />
    <div className="content details">
      <Bones tall many={3} />
    </div>
  </>
)
