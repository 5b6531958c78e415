/** What went wrong, as the server said it: field, what was expected, and the request to ask about. */
import { Button } from '@mantine/core'
import { IconAlertTriangle } from '@tabler/icons-react'
import { Component, type ReactNode } from 'react'
import { ApiError } from '../api/client'
import { words } from '../words'

export function Trouble({ error, retry }: { error: unknown; retry?: () => void }) {
  if (!error) return null
  const known = error instanceof ApiError ? error : null
  return (
    <div className="trouble" role="alert">
      <IconAlertTriangle size={18} aria-hidden />
      <div>
        <p>{error instanceof Error ? error.message : String(error)}</p>
        {known?.details.map((detail, i) => (
          <p key={i}>
            {detail.field && <code>{detail.field}</code>} {detail.message}
          </p>
        ))}
        {known?.requestId && (
          <small>
            {words.state.requestId} {known.requestId}
          </small>
        )}
      </div>
      {retry && (
        <Button size="xs" variant="default" onClick={retry}>
          {words.state.again}
        </Button>
      )}
    </div>
  )
}

/** Keeps a defect of one page from taking the whole app with it. */
export class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  state = { error: null as Error | null }

  static getDerivedStateFromError(error: Error) {
    return { error }
  }

  render() {
    if (!this.state.error) return this.props.children
    return (
      <div className="empty">
        <h2>{words.state.broken}</h2>
        <Trouble error={this.state.error} />
        <Button onClick={() => location.reload()}>{words.state.reload}</Button>
      </div>
    )
  }
}
