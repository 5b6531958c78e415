/** The frame of a page: its title, what can be done, and its content. */
import { type ReactNode, useEffect } from 'react'
import { words } from '../words'

type Props = {
  title: string
  name?: ReactNode
  actions?: ReactNode
  filters?: ReactNode
  className?: string
  children: ReactNode
}

export function Page({ title, name, actions, filters, className, children }: Props) {
  useEffect(() => {
    document.title = `${title} · ${words.app}`
  }, [title])
  return (
    <>
      <header className="top">
        <div className="name">{name ?? <h1>{title}</h1>}</div>
        <div className="acts">{actions}</div>
      </header>
      {filters && <div className="filters">{filters}</div>}
      <div className={`content ${className ?? ''}`}>{children}</div>
    </>
  )
}
