/** A text to search by, and what it finds, to be chosen by arrows and Enter or by a click. */
import { TextInput } from '@mantine/core'
import { IconSearch } from '@tabler/icons-react'
import { type KeyboardEvent, type ReactNode, useState } from 'react'

type Props<T> = {
  label: string
  list: string
  nothing: string
  text: string
  setText: (text: string) => void
  found: T[]
  keyOf: (one: T) => string
  choose: (one: T) => void
  classOf?: (one: T) => string
  render: (one: T) => ReactNode
  /** Between the text and what is found: another list begins at its first. */
  between?: ReactNode
}

export function Finder<T>(props: Props<T>) {
  const { label, list, nothing, text, setText, found, keyOf, choose, classOf, render, between } = props
  const [place, setPlace] = useState(0)
  const at = Math.min(place, Math.max(found.length - 1, 0))
  const walk = (event: KeyboardEvent) => {
    const one = found[at]
    if (event.key === 'ArrowDown') setPlace(Math.min(at + 1, found.length - 1))
    else if (event.key === 'ArrowUp') setPlace(Math.max(at - 1, 0))
    else if (event.key !== 'Enter') return
    else if (one) choose(one)
    event.preventDefault()
  }
  return (
    <>
      <TextInput
        data-autofocus
        role="combobox"
        aria-expanded
        aria-controls="found"
        aria-activedescendant={found[at] ? `found-${at}` : undefined}
        aria-label={label}
        placeholder={label}
        leftSection={<IconSearch size={16} />}
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value)
          setPlace(0)
        }}
        onKeyDown={walk}
      />
      {between && (
        <div role="presentation" onChange={() => setPlace(0)}>
          {between}
        </div>
      )}
      {!found.length && <p className="quiet pad">{nothing}</p>}
      <div className="choices" id="found" role="listbox" aria-label={list} tabIndex={-1}>
        {found.map((one, i) => (
          <div
            key={keyOf(one)}
            id={`found-${i}`}
            role="option"
            aria-selected={i === at}
            className={classOf?.(one)}
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => choose(one)}
            onKeyDown={() => {}}
            ref={(el) => (i === at ? el?.scrollIntoView({ block: 'nearest' }) : undefined)}
          >
            {render(one)}
          </div>
        ))}
      </div>
    </>
  )
}
