/** That the server does not answer, and what is safe meanwhile. */
import { useEffect } from 'react'
import { useReach, watchReach } from '../api/reach'
import { words } from '../words'

export function Lost() {
  const lostAt = useReach((s) => s.lostAt)
  useEffect(watchReach, [])
  if (!lostAt) return null
  const clock = lostAt.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })
  return (
    <div className="noanswer" role="status">
      <strong>{words.state.noAnswer(clock)}</strong> {words.state.safe}
    </div>
  )
}
