/** Puts what is pasted into the workflow, and says what was left out. */
import { useCallback, useState } from 'react'
import { edit, select, useDocument } from '../editor/document'
import { addNode, patchNode } from '../editor/edits'
import { pasteSteps } from '../editor/keys'
import { words } from '../words'
import { readPasted } from './read'

const said = words.paste

export function usePaste(askContract: (address: string) => void) {
  const [notice, setNotice] = useState('')
  const take = useCallback(
    async (text: string) => {
      setNotice('')
      const found = await readPasted(text)
      if (!found) return setNotice(text.trim() ? said.nothing : '')
      if (found.kind === 'steps') pasteSteps(found.nodes)
      else if (found.kind === 'contract') askContract(found.address)
      else {
        const { flow, selected } = useDocument.getState()
        const after = selected[0] ?? Object.keys(flow.nodes).at(-1) ?? null
        let id = ''
        edit((old) => {
          const added = addNode(old, 'http-request', { after })
          id = added.id
          return patchNode(added.flow, id, { payload: found.curl.payload })
        })
        select([id])
        if (found.curl.leftOut.length) setNotice(said.leftOut(found.curl.leftOut.join(', ')))
      }
    },
    [askContract],
  )
  return { take, notice, clear: () => setNotice('') }
}
